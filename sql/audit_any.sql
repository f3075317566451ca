-- audit_any: tables without any recommendation.
--
-- grain   one row, or none if there are recommendations
-- reads   recommendations, users
-- params  none
-- ties    none
select count(*) as users_without_a_list
from users
where not exists (select recommendations.user_id from recommendations)
having count(*) > 0
