-- admitted_users: the users that no rule has refused so far.
--
-- grain   one row per user of the snapshot
-- reads   snapshot_users (user_id, …, file_row_number), refused (source_table, file_row_number)
-- params  none; the file is a view, which shrinks as rules refuse rows
-- ties    none
with

refused_users as (
    select refused.file_row_number
    from refused
    where refused.source_table = 'users'
)

select snapshot_users.*
from snapshot_users
anti join refused_users using (file_row_number)
