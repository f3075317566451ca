-- audit_default_all: tables of default lists without the list for all, which serves users without another segment.
--
-- grain   one row if there are default lists but none for all
-- reads   default_recommendations (segment)
-- params  none
-- ties    none
select count(distinct segment) as n_segments
from default_recommendations
having count(*) > 0 and not bool_or(segment = 'all')
