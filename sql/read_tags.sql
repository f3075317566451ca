-- read_tags: the lines of a tags file as rows; a line that cannot be read is kept as it is, with the reason.
--
-- grain   one row per line of the file
-- reads   split_lines (source_line, line, fields, problem), the macros of read_fields
-- params  $separator text, $n_fields integer, $user_id, $movie_id, $tag, $tagged_at integer positions from 1
-- ties    none; the rows are in no particular order
--
-- A tag is any text. The rule tag_not_empty refuses empty ones.
with

readings as (
    select
        split_lines.*,
        read_id(fields[$user_id]) as user_id,
        read_id(fields[$movie_id]) as movie_id,
        read_moment(fields[$tagged_at]) as tagged_at
    from split_lines($separator, $n_fields) as split_lines
)

select
    source_line,
    user_id,
    movie_id,
    trim(fields[$tag], e' \t\r') as tag,
    tagged_at,
    coalesce(
        problem,
        wrong_id('user_id', fields[$user_id], user_id),
        wrong_id('movie_id', fields[$movie_id], movie_id),
        wrong_moment('tagged_at', fields[$tagged_at], tagged_at)
    ) as why,
    case when why is not null then line end as line
from readings
