-- audit_strangers: users with ratings and served_by default or features, or without ratings and another served_by.
--
-- grain   one row per (user_id, served_by)
-- reads   recommendations (user_id, served_by), ratings (user_id)
-- params  none
-- ties    none
with

served as (
    select distinct user_id, served_by
    from recommendations
),

rated as (
    select user_id, count(*) as n_ratings
    from ratings
    group by user_id
)

select served.user_id, served.served_by, coalesce(rated.n_ratings, 0) as n_ratings
from served
left join rated using (user_id)
where (served.served_by in ('features', 'default')) = (coalesce(rated.n_ratings, 0) > 0)
order by served.user_id, served.served_by
