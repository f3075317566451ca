-- rule_user_age: users with an age below 1 or above 120; an unknown age is allowed.
--
-- grain   one row per offending user
-- reads   users (user_id, age, …)
-- params  none
-- ties    none
select users.*
from users
where users.age not between 1 and 120
