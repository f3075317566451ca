-- rule_movie_title: movies without a title.
--
-- grain   one row per offending movie
-- reads   movies (movie_id, title, …)
-- params  none
-- ties    none
select movies.*
from movies
where trim(movies.title) = ''
