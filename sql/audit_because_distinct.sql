-- audit_because_distinct: films that are given more than once as a reason for one recommendation.
--
-- grain   one row per (user_id, rank, movie_id) and film
-- reads   recommendations (user_id, rank, movie_id, because_movie_ids), films (movie_id, film_id)
-- params  none
-- ties    the lowest movie_id among the reasons names the film
with

reasons as (
    select user_id, rank, movie_id as recommended_movie_id, unnest(because_movie_ids) as movie_id
    from recommendations
)

select reasons.user_id, reasons.rank, min(reasons.movie_id) as because_movie_id, count(*) as n_times
from reasons
left join films using (movie_id)
group by reasons.user_id, reasons.rank, reasons.recommended_movie_id, coalesce(films.film_id, reasons.movie_id)
having count(*) > 1
order by reasons.user_id, reasons.rank, min(reasons.movie_id)
