-- merge_users: the last version of each user_id in the drops.
--
-- grain   one row per user_id; more if one file has different rows for it, or there is a bad row, for the checks
-- reads   drop_users (user_id, gender, age, occupation, zip_code, updated_at, source_file, source_line)
-- params  $now timestamptz; later updates are ignored
-- ties    the latest updated_at, nulls last; then the file whose name without extension sorts last; of equal rows the
--         lowest line
--
-- A row that the checks will refuse replaces no good row: both are kept, and the checks refuse the bad one. An
-- updated_at in the future counts as null, because no correction could ever replace such a row.
with

judged as (
    select
        *,
        coalesce(age between 1 and 120, true) and coalesce(gender in ('M', 'F'), true) as is_usable,
        case when updated_at <= $now::timestamptz then updated_at end as happened_at
    from drop_users
),

last_said as (
    select *
    from judged
    qualify rank() over (
        partition by user_id, is_usable
        order by
            happened_at desc nulls last,
            regexp_replace(source_file, '\.\w+$', '') desc,
            source_file desc,
    ) = 1
)

select distinct on (user_id, gender, age, occupation, zip_code)
    user_id, gender, age, occupation, zip_code, source_file, source_line
from last_said
order by user_id, gender, age, occupation, zip_code, source_file, source_line
