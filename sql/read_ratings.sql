-- read_ratings: the lines of a ratings file as rows; a line that cannot be one is kept whole, with the reason.
--
-- grain   one row per line of the file
-- reads   parted_lines (source_line, line, fields, problem)
-- params  $separator text, $n_fields integer, $user_id, $movie_id, $rating, $rated_at integer positions from 1
-- ties    none: order is not promised
--
-- A field must be written in digits: try_cast alone would read 4.7 as the id 5 and 1_0 as the rating 10. A moment is
-- in seconds since 1970, up to the year 9999, or an ISO date and time, UTC unless it says otherwise.
with

texts as (
    select
        parted_lines.source_line,
        parted_lines.line,
        parted_lines.problem,
        parted_lines.fields[$user_id] as user_id,
        parted_lines.fields[$movie_id] as movie_id,
        parted_lines.fields[$rating] as rating,
        parted_lines.fields[$rated_at] as rated_at
    from parted_lines($separator, $n_fields) as parted_lines
),

readings as (
    select
        texts.source_line,
        case when regexp_full_match(texts.user_id, '\d+') then try_cast(texts.user_id as integer) end as user_id,
        case when regexp_full_match(texts.movie_id, '\d+') then try_cast(texts.movie_id as integer) end as movie_id,
        case
            when regexp_full_match(texts.rating, '-?\d+(\.\d+)?') then try_cast(texts.rating as float)
        end as rating,
        case
            when not regexp_full_match(texts.rated_at, '\d+') then try_cast(texts.rated_at as timestamptz)
            when try_cast(texts.rated_at as bigint) <= 253402300799 then to_timestamp(texts.rated_at::bigint)
        end as rated_at,
        texts as text
    from texts
),

judged as (
    select
        readings.*,
        case
            when text.problem is not null then text.problem
            when coalesce(user_id, 0) < 1
                then format('user_id ''{}'' is not a whole number from 1 to 2147483647', left(text.user_id, 50))
            when coalesce(movie_id, 0) < 1
                then format('movie_id ''{}'' is not a whole number from 1 to 2147483647', left(text.movie_id, 50))
            when not coalesce(isfinite(rating), false)
                then format('rating ''{}'' is not a number', left(text.rating, 50))
            when not coalesce(year(rated_at) between 1 and 9999, false)
                then format('rated_at ''{}'' is neither seconds since 1970 nor a date and time', left(text.rated_at, 50))
        end as why
    from readings
)

select
    source_line,
    user_id,
    movie_id,
    rating,
    rated_at,
    why,
    case when why is not null then text.line end as line
from judged
