-- audit_known: rows of lists with a user or a movie that is missing from the tables users and movies.
--
-- grain   one row per (user_id, segment, similar_to, rank)
-- reads   lists (user_id, segment, similar_to, rank, movie_id), movies (movie_id), users (user_id)
-- params  none
-- ties    none
select lists.user_id, lists.segment, lists.similar_to, lists.rank, lists.movie_id
from lists
left join users using (user_id)
left join movies using (movie_id)
left join movies as others on lists.similar_to = others.movie_id
where
    movies.movie_id is null
    or (lists.user_id is not null and users.user_id is null)
    or (lists.similar_to is not null and others.movie_id is null)
order by lists.user_id, lists.segment, lists.similar_to, lists.rank
