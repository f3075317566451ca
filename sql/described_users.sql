-- described_users: the users of a night with their age band and their segment of default_recommendations.
--
-- grain   one row per user_id
-- reads   the Parquet file $users (user_id, gender, age, occupation, zip_code)
-- params  $users varchar, $age_bands integer[], the lower ends of the bands
-- ties    none, user_id is unique
with

banded as (
    select
        *,
        case
            when age < list_min($age_bands) then 'under ' || list_min($age_bands)
            else list_max(list_filter($age_bands, lambda lower_end: lower_end <= age))::varchar
        end as age_band,
    from read_parquet($users)
)

select
    *,
    case
        when gender is not null and age_band is not null then 'gender=' || gender || ' age=' || age_band
        when age_band is not null then 'age=' || age_band
        when gender is not null then 'gender=' || gender
        when occupation is not null then 'occupation=' || occupation
        else 'all'
    end as segment,
from banded
order by user_id
