-- rule_movie_id_unique: movies with a repeated movie_id, except for the row that is kept.
--
-- grain   one row per offending movie: all but one per movie_id
-- reads   movies (movie_id, title, year, genres, file_row_number),
--         source_lines (source_table, file_row_number, source_file, source_line)
-- params  none
-- ties    the row with the lowest (title, year, genres) is kept, nulls last;
--         among equal rows, the lowest source file and line, then the lowest row of the snapshot
--
-- Content comes before lines, because the id of a snapshot depends only on its content and must give one result.
with

movie_lines as (
    select source_lines.file_row_number, source_lines.source_file, source_lines.source_line
    from source_lines
    where source_lines.source_table = 'movies'
)

select movies.*
from movies
left join movie_lines using (file_row_number)
qualify row_number() over (
    partition by movies.movie_id
    order by
        movies.title,
        movies.year,
        movies.genres,
        movie_lines.source_file,
        movie_lines.source_line,
        movies.file_row_number,
) > 1
