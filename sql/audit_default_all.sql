-- audit_default_all: tables of default lists without a list for all, to whom no other one may apply.
--
-- grain   one row if there is none, though there are others
-- reads   default_recommendations (segment)
-- params  none
-- ties    none
select count(distinct segment) as n_segments
from default_recommendations
having count(*) > 0 and not bool_or(segment = 'all')
