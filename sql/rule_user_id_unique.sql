-- rule_user_id_unique: users whose user_id stands on an earlier line already.
--
-- grain   one row per offending user: of each user_id all but one
-- reads   users (user_id, …, file_row_number),
--         source_lines (source_table, file_row_number, source_file, source_line)
-- params  none
-- ties    the lowest source file and line stays, then the lowest row of the snapshot
with

user_lines as (
    select source_lines.file_row_number, source_lines.source_file, source_lines.source_line
    from source_lines
    where source_lines.source_table = 'users'
)

select users.*
from users
left join user_lines using (file_row_number)
qualify row_number() over (
    partition by users.user_id
    order by user_lines.source_file, user_lines.source_line, users.file_row_number
) > 1
