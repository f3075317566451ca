-- rule_tag_movie_known: tags of movies that are not in the movies table, or were refused there.
--
-- grain   one row per offending tag
-- reads   tags (user_id, movie_id, …), movies (movie_id)
-- params  none
-- ties    none
select tags.*
from tags
anti join movies using (movie_id)
