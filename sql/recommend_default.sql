-- recommend_default: the default list of a segment with the names of its movies.
--
-- grain   one row per rank
-- reads   default_recommendations_named (segment, rank, title, year, score)
-- params  $segment varchar
-- ties    none, rank is unique
select rank, title, year, score
from default_recommendations_named
where segment = $segment
order by rank
