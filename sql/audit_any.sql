-- audit_any: tables without a single recommendation, which would leave every reader with nothing.
--
-- grain   one row if there is none
-- reads   recommendations, users
-- params  none
-- ties    none
select count(*) as users_without_a_list
from users
where not exists (select recommendations.user_id from recommendations)
having count(*) > 0
