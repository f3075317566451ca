-- audit_links: movies in links that are not in movies.
--
-- grain   one row per movie_id
-- reads   links (movie_id), movies (movie_id)
-- params  none
-- ties    none
select links.movie_id
from links
anti join movies using (movie_id)
order by links.movie_id
