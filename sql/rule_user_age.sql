-- rule_user_age: users of an age that nobody has; an unknown age is no offence.
--
-- grain   one row per offending user
-- reads   users (user_id, age, …)
-- params  none
-- ties    none
select users.*
from users
where users.age not between 1 and 120
