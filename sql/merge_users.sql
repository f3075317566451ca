-- merge_users: the latest version of each user_id in the drops.
--
-- grain   one row per user_id; more if a file has different rows for it or a bad row, which the checks refuse
-- reads   drop_users (user_id, gender, age, occupation, zip_code, updated_at, source_file, source_line)
-- params  $now timestamptz; later updates are ignored
-- ties    the latest updated_at, nulls last; then the file whose name without extension sorts last; among equal rows,
--         the lowest line
--
-- A row that the checks will refuse does not replace a good row: both are kept, and the checks refuse the bad one. An
-- updated_at in the future counts as null, because otherwise no correction could ever replace such a row.
with

marked as (
    select
        *,
        coalesce(age between 1 and 120, true) and coalesce(gender in ('M', 'F'), true) as is_usable,
        case when updated_at <= $now::timestamptz then updated_at end as happened_at
    from drop_users
),

latest as (
    select *
    from marked
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
from latest
order by user_id, gender, age, occupation, zip_code, source_file, source_line
