-- rule_user_gender: users with a gender other than M or F, the editions' values; an unknown gender is allowed.
--
-- grain   one row per offending user
-- reads   users (user_id, gender, …)
-- params  none
-- ties    none
select users.*
from users
where users.gender not in ('M', 'F')
