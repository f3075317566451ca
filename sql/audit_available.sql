-- audit_available: movies in a list of a user, a segment or a similar movie that may not be shown tonight.
--
-- grain   one row per movie_id
-- reads   lists (movie_id), available (movie_id), movies (movie_id)
-- params  none
-- ties    none; audit_known reports movies that are missing from movies
select lists.movie_id, count(*) as n_rows
from lists
semi join movies using (movie_id)
anti join available using (movie_id)
group by lists.movie_id
order by lists.movie_id
