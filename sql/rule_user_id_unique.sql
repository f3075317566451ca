-- rule_user_id_unique: users with a repeated user_id, except for the row that is kept.
--
-- grain   one row per offending user: all but one per user_id
-- reads   users (user_id, gender, age, occupation, zip_code, file_row_number),
--         source_lines (source_table, file_row_number, source_file, source_line)
-- params  none
-- ties    the row with the lowest (gender, age, occupation, zip_code) is kept, nulls last;
--         among equal rows, the lowest source file and line, then the lowest row of the snapshot
--
-- Content comes before lines, because the id of a snapshot depends only on its content and must give one result.
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
    order by
        users.gender,
        users.age,
        users.occupation,
        users.zip_code,
        user_lines.source_file,
        user_lines.source_line,
        users.file_row_number,
) > 1
