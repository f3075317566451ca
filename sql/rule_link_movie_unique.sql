-- rule_link_movie_unique: links with a repeated movie_id, except for the row that is kept.
--
-- grain   one row per offending link: all but one per movie_id
-- reads   links (movie_id, imdb_id, tmdb_id, file_row_number),
--         source_lines (source_table, file_row_number, source_file, source_line)
-- params  none
-- ties    the row with the lowest (imdb_id, tmdb_id) is kept, nulls last;
--         among equal rows, the lowest source file and line, then the lowest row of the snapshot
--
-- Content comes before lines, because the id of a snapshot depends only on its content and must give one result.
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
    order by
        links.imdb_id,
        links.tmdb_id,
        link_lines.source_file,
        link_lines.source_line,
        links.file_row_number,
) > 1
