-- rule_movie_id_unique: movies whose movie_id another row has already.
--
-- grain   one row per offending movie: of each movie_id all but one
-- reads   movies (movie_id, title, year, genres, file_row_number),
--         source_lines (source_table, file_row_number, source_file, source_line)
-- params  none
-- ties    the lowest title, year, genres stays, in this order, unknown ones last;
--         of rows equal in all of them the lowest source file and line, then the lowest row of the snapshot
--
-- Lines are no part of a snapshot's name: one name must give one result.
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
