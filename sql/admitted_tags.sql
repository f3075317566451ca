-- admitted_tags: the tags that no rule has refused so far.
--
-- grain   one row per tag before as_of
-- reads   snapshot_tags (user_id, movie_id, tag, tagged_at, file_row_number),
--         refused (source_table, file_row_number)
-- params  none; the file is a view, which shrinks as rules refuse rows
-- ties    none
with

refused_tags as (
    select refused.file_row_number
    from refused
    where refused.source_table = 'tags'
)

select snapshot_tags.*
from snapshot_tags
anti join refused_tags using (file_row_number)
