-- read_links: the lines of a file of links as rows; a line that cannot be one is kept whole, with the reason.
--
-- grain   one row per line of the file
-- reads   parted_lines (source_line, line, fields, problem)
-- params  $separator text, $n_fields integer, $movie_id, $imdb_id, $tmdb_id integer positions from 1
-- ties    none: order is not promised
--
-- Numbers as in read_ratings. An id elsewhere may be missing; that of IMDb keeps its zeros in front, that of TMDB may
-- come as 862.0 from tools that have no other way to say that some are missing.
with

texts as (
    select
        parted_lines.source_line,
        parted_lines.line,
        parted_lines.problem,
        parted_lines.fields[$movie_id] as movie_id,
        trim(parted_lines.fields[$imdb_id]) as imdb_id,
        trim(parted_lines.fields[$tmdb_id]) as tmdb_id
    from parted_lines($separator, $n_fields) as parted_lines
),

readings as (
    select
        texts.source_line,
        case when regexp_full_match(texts.movie_id, '\d+') then try_cast(texts.movie_id as integer) end as movie_id,
        case when regexp_full_match(texts.imdb_id, '\d+') then texts.imdb_id end as imdb_id,
        case
            when regexp_full_match(texts.tmdb_id, '\d+(\.0+)?')
                then try_cast(split_part(texts.tmdb_id, '.', 1) as integer)
        end as tmdb_id,
        texts as text
    from texts
),

judged as (
    select
        readings.*,
        case
            when text.problem is not null then text.problem
            when coalesce(movie_id, 0) < 1
                then format('movie_id ''{}'' is not a whole number from 1 to 2147483647', left(text.movie_id, 50))
            when imdb_id is null and text.imdb_id <> ''
                then format('imdb_id ''{}'' is not written in digits', left(text.imdb_id, 50))
            when tmdb_id is null and text.tmdb_id <> ''
                then format('tmdb_id ''{}'' is not a whole number from 0 to 2147483647', left(text.tmdb_id, 50))
        end as why
    from readings
)

select
    source_line,
    movie_id,
    imdb_id,
    tmdb_id,
    why,
    case when why is not null then text.line end as line
from judged
