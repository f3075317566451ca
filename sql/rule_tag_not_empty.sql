-- rule_tag_not_empty: tags without text.
--
-- grain   one row per offending tag
-- reads   tags (user_id, movie_id, tag, …)
-- params  none
-- ties    none
select tags.*
from tags
where trim(tags.tag) = ''
