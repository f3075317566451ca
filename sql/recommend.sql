-- recommend: one user's list with the names of its movies.
--
-- grain   one row per rank
-- reads   recommendations_named (run_id, user_id, rank, movie_id, title, year, score, rating_hat, because_movie_ids,
--         because_titles, served_by)
-- params  $user_id integer
-- ties    none, rank is unique
select
    run_id,
    rank,
    movie_id,
    title,
    year,
    score,
    rating_hat,
    because_movie_ids,
    because_titles,
    served_by,
from recommendations_named
where user_id = $user_id
order by rank
