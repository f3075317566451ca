-- admitted_links: the links that no rule has refused so far.
--
-- grain   one row per link of the snapshot
-- reads   snapshot_links (movie_id, imdb_id, tmdb_id, file_row_number),
--         refused (source_table, file_row_number)
-- params  none; the file is a view, which shrinks as rules refuse rows
-- ties    none
with

refused_links as (
    select refused.file_row_number
    from refused
    where refused.source_table = 'links'
)

select snapshot_links.*
from snapshot_links
anti join refused_links using (file_row_number)
