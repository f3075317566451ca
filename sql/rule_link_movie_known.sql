-- rule_link_movie_known: links of movies that are not in the movies table, or were refused there.
--
-- grain   one row per offending link
-- reads   links (movie_id, …), movies (movie_id)
-- params  none
-- ties    none
select links.*
from links
anti join movies using (movie_id)
