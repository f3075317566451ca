-- audit_segments: users whose segment has no list in default_recommendations.
--
-- grain   one row per user_id
-- reads   users (user_id, segment), default_recommendations (segment)
-- params  none
-- ties    none; a warehouse without default lists passes, and so do users of an older version, who have no segment
select users.user_id, users.segment
from users
anti join default_recommendations using (segment)
where users.segment is not null and exists (from default_recommendations)
order by users.user_id
