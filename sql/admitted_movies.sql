-- admitted_movies: the movies that no rule has refused so far.
--
-- grain   one row per movie of the snapshot
-- reads   snapshot_movies (movie_id, title, year, genres, file_row_number), refused (source_table, file_row_number)
-- params  none; the file is a view, which shrinks as rules refuse rows
-- ties    none
with

refused_movies as (
    select refused.file_row_number
    from refused
    where refused.source_table = 'movies'
)

select snapshot_movies.*
from snapshot_movies
anti join refused_movies using (file_row_number)
