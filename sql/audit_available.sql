-- audit_available: movies in a user's list, a default one or one of similar movies that may not be shown tonight.
--
-- grain   one row per movie_id
-- reads   recommendations (movie_id), default_recommendations (movie_id), similar_movies (similar_movie_id),
--         available (movie_id), movies (movie_id)
-- params  none
-- ties    none; a movie that nobody knows is the business of audit_known and audit_lists_known
with

shown as (
    select movie_id
    from recommendations
    union all
    select movie_id
    from default_recommendations
    union all
    select similar_movie_id as movie_id
    from similar_movies
)

select shown.movie_id, count(*) as n_rows
from shown
semi join movies using (movie_id)
anti join available using (movie_id)
group by shown.movie_id
order by shown.movie_id
