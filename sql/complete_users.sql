-- complete_users: the users table, and a row without a profile for every other user with ratings.
--
-- grain   one row per user_id
-- reads   users (user_id, gender, age, occupation, zip_code, file_row_number), ratings (user_id), both as admitted
-- params  none; the file is a view
-- ties    none
with

strangers as (
    select distinct ratings.user_id
    from ratings
    anti join users using (user_id)
)

select users.user_id, users.gender, users.age, users.occupation, users.zip_code, users.file_row_number
from users
union all by name
select strangers.user_id
from strangers
