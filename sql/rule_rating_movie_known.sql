-- rule_rating_movie_known: ratings of movies that are not in the movies table, or were refused there.
--
-- grain   one row per offending rating
-- reads   ratings (user_id, movie_id, …), movies (movie_id)
-- params  none
-- ties    none
select ratings.*
from ratings
anti join movies using (movie_id)
