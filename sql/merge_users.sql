-- merge_users: of each user_id what the drops said of it last.
--
-- grain   one row per user_id; more when one file says different things of it, which is for the checks to judge
-- reads   drop_users (user_id, gender, age, occupation, zip_code, updated_at, source_file, source_line)
-- params  none
-- ties    the latest updated_at, any before none; then the file whose name, less its ending, sorts last; of equal rows the lowest line
with

last_said as (
    select *
    from drop_users
    qualify rank() over (
        partition by user_id
        order by updated_at desc nulls last, regexp_replace(source_file, '\.\w+$', '') desc, source_file desc
    ) = 1
)

select distinct on (user_id, gender, age, occupation, zip_code)
    user_id, gender, age, occupation, zip_code, source_file, source_line
from last_said
order by user_id, gender, age, occupation, zip_code, source_file, source_line
