-- rule_movie_year: movies released before 1870 or after 2100; an unknown year is allowed.
--
-- grain   one row per offending movie
-- reads   movies (movie_id, year, …)
-- params  none
-- ties    none
select movies.*
from movies
where movies.year not between 1870 and 2100
