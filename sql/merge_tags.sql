-- merge_tags: every distinct tag in the drops.
--
-- grain   one row per (user_id, movie_id, tag, tagged_at)
-- reads   drop_tags (user_id, movie_id, tag, tagged_at, source_file, source_line)
-- params  none
-- ties    the file whose name sorts first, then the lowest line
select distinct on (user_id, movie_id, tag, tagged_at)
    user_id, movie_id, tag, tagged_at, source_file, source_line
from drop_tags
order by user_id, movie_id, tag, tagged_at, source_file, source_line
