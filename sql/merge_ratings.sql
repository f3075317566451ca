-- merge_ratings: every distinct rating in the drops, and the time at which it was superseded.
--
-- grain   one row per (user_id, movie_id, rated_at), and one per rating that a rule will refuse
-- reads   drop_ratings (user_id, movie_id, rating, rated_at, source_file, source_line),
--         drop_retractions (user_id, movie_id, retracted_at)
-- params  $scale float[], the valid stars; $now timestamptz, after which ratings and retractions are ignored;
--         $isolated_since timestamptz, the first rating that is isolated (rule_rated_at_isolated), or null
-- ties    at the same time, the highest rating; among equal ratings, the file whose name sorts first, then the lowest
--         line
--
-- until is null for current ratings. A rating that was retracted at its own time was never current. A rating off the
-- scale or with an impossible time neither replaces a rating nor is replaced, because the checks refuse it and must
-- keep a valid one. Retractions in the future are ignored, and so are those before 1995, when there were no ratings.
with

marked as (
    select
        *,
        list_contains($scale, rating)
        and rated_at >= timestamptz '1995-01-01 00:00:00+00'
        and rated_at <= $now::timestamptz
        and coalesce(rated_at < $isolated_since::timestamptz, true) as is_usable
    from drop_ratings
),

usable as (
    select distinct on (user_id, movie_id, rated_at)
        user_id, movie_id, rating, rated_at, source_file, source_line
    from marked
    where is_usable
    order by user_id, movie_id, rated_at, rating desc, source_file, source_line
),

unusable as (
    select distinct on (user_id, movie_id, rated_at, rating)
        user_id, movie_id, rating, rated_at, source_file, source_line
    from marked
    where not is_usable
    order by user_id, movie_id, rated_at, rating, source_file, source_line
),

followed as (
    select
        *,
        lead(rated_at) over (partition by user_id, movie_id order by rated_at) as next_rated_at
    from usable
),

retractions as (
    select user_id, movie_id, retracted_at
    from drop_retractions
    where retracted_at <= $now::timestamptz
),

ended as (
    select
        followed.* exclude (next_rated_at),
        -- least() ignores nulls
        least(followed.next_rated_at, retractions.retracted_at) as until
    from followed
    asof left join retractions
        on followed.user_id = retractions.user_id
        and followed.movie_id = retractions.movie_id
        and followed.rated_at <= retractions.retracted_at
)

select * from ended
union all by name
select *, null as until from unusable
