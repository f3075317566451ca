-- audit_caps: lists of users or segments with more movies of a group than its cap allows.
--
-- grain   one row per (user_id, segment, group_name)
-- reads   lists (user_id, segment, similar_to, movie_id), caps (movie_id, group_name, at_most)
-- params  none
-- ties    none
select
    lists.user_id,
    lists.segment,
    caps.group_name,
    caps.at_most,
    count(*) as listed,
from lists
join caps using (movie_id)
where lists.similar_to is null
group by lists.user_id, lists.segment, caps.group_name, caps.at_most
having count(*) > caps.at_most
order by lists.user_id, lists.segment, caps.group_name
