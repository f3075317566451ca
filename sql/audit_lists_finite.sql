-- audit_lists_finite: scores or similarities of default or similar lists that are infinite or not a number.
--
-- grain   one row per (list, rank)
-- reads   other_lists (list, rank, score)
-- params  none
-- ties    none
select list, rank, score
from other_lists
where not isfinite(score)
order by list, rank
