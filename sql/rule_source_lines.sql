-- rule_source_lines: the source file and line of each row of the snapshot.
--
-- grain   one row per (source_table, file_row_number)
-- reads   movies_lines, users_lines, ratings_lines, tags_lines, links_lines, superseded_lines
--         (source_file, source_line, file_row_number)
-- params  none
-- ties    none; the rows of superseded are numbered -1, -2, …, as in known_ratings
select 'movies' as source_table, movies_lines.file_row_number, movies_lines.source_file, movies_lines.source_line
from movies_lines
union all
select 'users' as source_table, users_lines.file_row_number, users_lines.source_file, users_lines.source_line
from users_lines
union all
select 'ratings' as source_table, ratings_lines.file_row_number, ratings_lines.source_file, ratings_lines.source_line
from ratings_lines
union all
select 'tags' as source_table, tags_lines.file_row_number, tags_lines.source_file, tags_lines.source_line
from tags_lines
union all
select 'links' as source_table, links_lines.file_row_number, links_lines.source_file, links_lines.source_line
from links_lines
union all
select 'ratings', -1 - superseded_lines.file_row_number, superseded_lines.source_file, superseded_lines.source_line
from superseded_lines
