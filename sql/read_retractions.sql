-- read_retractions: the lines of a file of retractions as rows; a line that cannot be read is kept, with the reason.
--
-- grain   one row per line of the file
-- reads   split_lines (source_line, line, fields, problem), the macros of read_fields
-- params  $separator text, $n_fields integer, $user_id, $movie_id, $retracted_at integer positions from 1
-- ties    none; the rows are in no particular order
with

readings as (
    select
        split_lines.*,
        read_id(fields[$user_id]) as user_id,
        read_id(fields[$movie_id]) as movie_id,
        read_moment(fields[$retracted_at]) as retracted_at
    from split_lines($separator, $n_fields) as split_lines
)

select
    source_line,
    user_id,
    movie_id,
    retracted_at,
    coalesce(
        problem,
        wrong_id('user_id', fields[$user_id], user_id),
        wrong_id('movie_id', fields[$movie_id], movie_id),
        wrong_moment('retracted_at', fields[$retracted_at], retracted_at)
    ) as why,
    case when why is not null then line end as line
from readings
