-- list_segments: the segments that have a default list, the one for all first.
--
-- grain   one row per segment
-- reads   default_recommendations (segment)
-- params  none
-- ties    none, segment is unique
select distinct segment
from default_recommendations
order by segment <> 'all', segment
