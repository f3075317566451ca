-- audit_caps: lists with more movies of a group than its cap allows.
--
-- grain   one row per (user_id, group_name)
-- reads   recommendations (user_id, movie_id), caps (movie_id, group_name, at_most)
-- params  none
-- ties    none
select
    recommendations.user_id,
    caps.group_name,
    caps.at_most,
    count(*) as listed,
from recommendations
join caps using (movie_id)
group by recommendations.user_id, caps.group_name, caps.at_most
having count(*) > caps.at_most
order by recommendations.user_id, caps.group_name
