-- films: the movies that are entries of a film with several entries.
--
-- grain   one row per movie_id
-- reads   movies (movie_id, film_id)
-- params  none: this is a view
-- ties    none, rows are not sorted
select movie_id, film_id
from movies
where film_id is not null
qualify count(*) over (partition by film_id) > 1
