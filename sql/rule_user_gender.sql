-- rule_user_gender: users whose gender is neither of the two that the editions write; an unknown one is no offence.
--
-- grain   one row per offending user
-- reads   users (user_id, gender, …)
-- params  none
-- ties    none
select users.*
from users
where users.gender not in ('M', 'F')
