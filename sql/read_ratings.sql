-- read_ratings: the lines of a ratings file, split into fields and cast; a line that cannot be a row is kept whole.
--
-- grain   one row per line of the file
-- reads   lines (source_line, line)
-- params  $separator text, $fields integer, $user_id, $movie_id, $rating, $rated_at integer positions from 1
-- ties    none: order is not promised
--
-- A field must be written in digits: try_cast alone would read 4.7 as the id 5 and 1_0 as the rating 10. A moment is
-- in seconds since 1970, up to the year 9999, or an ISO date and time, UTC unless it says otherwise.
with

split_lines as (
    select
        lines.source_line,
        rtrim(lines.line, e'\r\n') as line,
        string_split(rtrim(lines.line, e'\r\n'), $separator) as fields
    from lines
),

fields as (
    select
        split_lines.source_line,
        split_lines.line,
        split_lines.fields[$user_id] as user_id,
        split_lines.fields[$movie_id] as movie_id,
        split_lines.fields[$rating] as rating,
        split_lines.fields[$rated_at] as rated_at,
        len(split_lines.fields) = $fields as is_complete
    from split_lines
),

readings as (
    select
        fields.source_line,
        fields.line,
        fields.is_complete,
        case when regexp_full_match(fields.user_id, '\d+') then try_cast(fields.user_id as integer) end as user_id,
        case when regexp_full_match(fields.movie_id, '\d+') then try_cast(fields.movie_id as integer) end as movie_id,
        case
            when regexp_full_match(fields.rating, '-?\d+(\.\d+)?') then try_cast(fields.rating as float)
        end as rating,
        case
            when not regexp_full_match(fields.rated_at, '\d+') then try_cast(fields.rated_at as timestamptz)
            when try_cast(fields.rated_at as bigint) <= 253402300799 then to_timestamp(fields.rated_at::bigint)
        end as rated_at
    from fields
),

judged as (
    select
        *,
        coalesce(
            is_complete and user_id > 0 and movie_id > 0 and isfinite(rating) and isfinite(rated_at),
            false
        ) as is_readable
    from readings
)

select
    source_line,
    user_id,
    movie_id,
    rating,
    rated_at,
    case when not is_readable then line end as unreadable
from judged
