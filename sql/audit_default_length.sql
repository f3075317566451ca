-- audit_default_length: default lists with neither n films nor all the films that may be shown.
--
-- grain   one row per segment
-- reads   default_recommendations (segment), available (movie_id), films (movie_id, film_id), caps (movie_id),
--         audited (n)
-- params  none
-- ties    none; audit_room checks lists that caps may shorten
with

available_films as (
    select distinct coalesce(films.film_id, available.movie_id) as film_id
    from available
    left join films using (movie_id)
),

lengths as (
    select
        default_recommendations.segment,
        count(*) as n_listed,
        least((select n from audited), (select count(*) from available_films)) as n_expected,
    from default_recommendations
    group by default_recommendations.segment
)

select segment, n_listed, n_expected
from lengths
where n_listed > n_expected or (n_listed < n_expected and not exists (select caps.movie_id from caps))
order by segment
