-- audit_known: recommendations for users, or of movies, that the published tables do not name.
--
-- grain   one row per (user_id, rank)
-- reads   recommendations (user_id, rank, movie_id), movies (movie_id), users (user_id)
-- params  none
-- ties    none
select
    recommendations.user_id,
    recommendations.rank,
    recommendations.movie_id,
    users.user_id is not null as is_user_known,
    movies.movie_id is not null as is_movie_known,
from recommendations
left join users using (user_id)
left join movies using (movie_id)
where users.user_id is null or movies.movie_id is null
order by recommendations.user_id, recommendations.rank
