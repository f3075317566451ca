-- read_links: the lines of a links file as rows; a line that cannot be read is kept as it is, with the reason.
--
-- grain   one row per line of the file
-- reads   split_lines (source_line, line, fields, problem), the macros of read_fields
-- params  $separator text, $n_fields integer, $movie_id, $imdb_id, $tmdb_id integer positions from 1
-- ties    none; the rows are in no particular order
--
-- The ids of IMDb and TMDB may be missing. An IMDb id keeps its leading zeros. A TMDB id may be written as 862.0,
-- because some tools write integer columns with missing values in this form.
with

readings as (
    select
        split_lines.*,
        read_id(fields[$movie_id]) as movie_id,
        trim(fields[$imdb_id]) as imdb_text,
        trim(fields[$tmdb_id]) as tmdb_text,
        case when regexp_full_match(imdb_text, '\d+') then imdb_text end as imdb_id,
        case
            when regexp_full_match(tmdb_text, '\d+(\.0+)?') then try_cast(split_part(tmdb_text, '.', 1) as integer)
        end as tmdb_id
    from split_lines($separator, $n_fields) as split_lines
)

select
    source_line,
    movie_id,
    imdb_id,
    tmdb_id,
    coalesce(
        problem,
        wrong_id('movie_id', fields[$movie_id], movie_id),
        case
            when imdb_id is null and imdb_text <> ''
                then format('imdb_id ''{}'' is not written in digits', left(imdb_text, 50))
        end,
        case
            when tmdb_id is null and tmdb_text <> ''
                then format('tmdb_id ''{}'' is not a whole number from 0 to 2147483647', left(tmdb_text, 50))
        end
    ) as why,
    case when why is not null then line end as line
from readings
