-- audit_unseen: recommended movies that the user has already rated, under the same movie_id or another of the film.
--
-- grain   one row per (user_id, rank)
-- reads   recommendations (user_id, rank, movie_id), ratings (user_id, movie_id), films (movie_id, film_id)
-- params  none
-- ties    none
with

rated_twins as (
    select ratings.user_id, films.film_id
    from ratings
    join films using (movie_id)
),

offending as (
    select user_id, rank, movie_id
    from recommendations
    semi join ratings using (user_id, movie_id)
    union all
    select recommendations.user_id, recommendations.rank, recommendations.movie_id
    from recommendations
    join films using (movie_id)
    semi join rated_twins on recommendations.user_id = rated_twins.user_id and films.film_id = rated_twins.film_id
)

select distinct user_id, rank, movie_id
from offending
order by user_id, rank
