-- rule_link_movie_unique: links whose movie_id stands on an earlier line already.
--
-- grain   one row per offending link: of each movie_id all but one
-- reads   links (movie_id, …, file_row_number),
--         source_lines (source_table, file_row_number, source_file, source_line)
-- params  none
-- ties    the lowest source file and line stays, then the lowest row of the snapshot
with

link_lines as (
    select source_lines.file_row_number, source_lines.source_file, source_lines.source_line
    from source_lines
    where source_lines.source_table = 'links'
)

select links.*
from links
left join link_lines using (file_row_number)
qualify row_number() over (
    partition by links.movie_id
    order by link_lines.source_file, link_lines.source_line, links.file_row_number
) > 1
