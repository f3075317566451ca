-- known_users: the number of users, the range of their ids, and whether $user_id is one of them.
--
-- grain   one row
-- reads   users (user_id)
-- params  $user_id integer
-- ties    none
select
    count(*) as n_users,
    min(user_id) as first_user_id,
    max(user_id) as last_user_id,
    coalesce(bool_or(user_id = $user_id), false) as is_known,
from users
