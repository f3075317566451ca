-- audit_default_length: default lists with neither n movies nor all the movies that may be shown.
--
-- grain   one row per segment
-- reads   default_recommendations (segment), available (movie_id), caps (movie_id), audited (n)
-- params  none
-- ties    none; audit_room checks lists that caps may shorten
with

lengths as (
    select
        default_recommendations.segment,
        count(*) as n_listed,
        least((select n from audited), (select count(*) from available)) as n_expected,
    from default_recommendations
    group by default_recommendations.segment
)

select segment, n_listed, n_expected
from lengths
where n_listed > n_expected or (n_listed < n_expected and not exists (select caps.movie_id from caps))
order by segment
