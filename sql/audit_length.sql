-- audit_length: users whose list has neither n films nor all the films that they may be shown.
--
-- grain   one row per user_id, including users without any list
-- reads   users (user_id), recommendations (user_id), ratings (user_id, movie_id), available (movie_id),
--         films (movie_id, film_id), shortened (user_id, n_available), audited (n)
-- params  none
-- ties    none
with

available_films as (
    select distinct coalesce(films.film_id, available.movie_id) as film_id
    from available
    left join films using (movie_id)
),

-- a film that was rated under several ids counts once
seen as (
    select ratings.user_id, count(*) - count(films.film_id) + count(distinct films.film_id) as n_seen
    from ratings
    left join films using (movie_id)
    semi join available_films on coalesce(films.film_id, ratings.movie_id) = available_films.film_id
    group by ratings.user_id
),

listed as (
    select user_id, count(*) as n_listed
    from recommendations
    group by user_id
),

lengths as (
    select
        users.user_id,
        coalesce(listed.n_listed, 0) as n_listed,
        least(
            (select n from audited),
            (select count(*) from available_films) - coalesce(seen.n_seen, 0),
            shortened.n_available -- null for most users; least() ignores it
        ) as n_expected,
    from users
    left join seen using (user_id)
    left join listed using (user_id)
    left join shortened using (user_id)
)

select user_id, n_listed, n_expected
from lengths
where n_listed <> n_expected
order by user_id
