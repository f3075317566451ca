-- merge_ratings: every rating that the drops tell of, once, and the moment from which it no longer stands.
--
-- grain   one row per (user_id, movie_id, rated_at), and per rating that a rule will refuse
-- reads   drop_ratings (user_id, movie_id, rating, rated_at, source_file, source_line),
--         drop_retractions (user_id, movie_id, retracted_at)
-- params  $scale float[], stars that can be given; $now timestamptz, after which nothing has happened
-- ties    ratings of one moment: the highest stays; equal ones: the file whose name sorts first, the lowest line
--
-- until is null for what stands; a rating retracted at its own moment never stood. A rating off the scale or from an
-- impossible time replaces nothing and is replaced by nothing: the checks will refuse it, and a good one must stay.
-- A retraction from a time to come ends nothing; nor does one from before 1995, when nothing usable had been rated.
with

judged as (
    select
        *,
        list_contains($scale, rating)
        and rated_at >= timestamptz '1995-01-01 00:00:00+00'
        and rated_at <= $now::timestamptz as is_usable
    from drop_ratings
),

usable as (
    select distinct on (user_id, movie_id, rated_at)
        user_id, movie_id, rating, rated_at, source_file, source_line
    from judged
    where is_usable
    order by user_id, movie_id, rated_at, rating desc, source_file, source_line
),

unusable as (
    select distinct on (user_id, movie_id, rated_at, rating)
        user_id, movie_id, rating, rated_at, source_file, source_line
    from judged
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
        -- least() passes over nulls
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
