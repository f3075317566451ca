-- audit_lists_known: movies in default or similar lists, or with a similar list, that the published tables do not name.
--
-- grain   one row per movie_id
-- reads   other_lists (movie_id), similar_movies (movie_id), movies (movie_id)
-- params  none
-- ties    none
with

listed as (
    select movie_id
    from other_lists
    union all
    select movie_id
    from similar_movies
)

select listed.movie_id, count(*) as n_rows
from listed
anti join movies using (movie_id)
group by listed.movie_id
order by listed.movie_id
