-- rule_movie_year: movies released before there was film, or a lifetime from now; an unknown year is no offence.
--
-- grain   one row per offending movie
-- reads   movies (movie_id, year, …)
-- params  none
-- ties    none
select movies.*
from movies
where movies.year not between 1870 and 2100
