-- rule_source_lines: where in the source each row of the snapshot stood.
--
-- grain   one row per (source_table, file_row_number)
-- reads   movies_lines, users_lines, ratings_lines (source_line, file_row_number)
-- params  none
-- ties    none
select 'movies' as source_table, movies_lines.file_row_number, movies_lines.source_line
from movies_lines
union all
select 'users' as source_table, users_lines.file_row_number, users_lines.source_line
from users_lines
union all
select 'ratings' as source_table, ratings_lines.file_row_number, ratings_lines.source_line
from ratings_lines
