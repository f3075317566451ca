-- admitted_ratings: the ratings that no rule has refused so far.
--
-- grain   one row per rating before as_of
-- reads   snapshot_ratings (user_id, movie_id, rating, rated_at, file_row_number): those before as_of,
--         refused (source_table, file_row_number)
-- params  none; the file is a view, which shrinks as rules refuse rows
-- ties    none
with

refused_ratings as (
    select refused.file_row_number
    from refused
    where refused.source_table = 'ratings'
)

select snapshot_ratings.*
from snapshot_ratings
anti join refused_ratings using (file_row_number)
