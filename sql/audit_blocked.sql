-- audit_blocked: recommended movies that a rule blocks for the user.
--
-- grain   one row per (user_id, rank)
-- reads   recommendations (user_id, rank, movie_id), movies (movie_id, genres),
--         blocked (user_id, movie_id, genre); null matches any
-- params  none
-- ties    none
with

blocked_for_all as (
    select movie_id, genre
    from blocked
    where user_id is null
),

recommended_genres as (
    select
        recommendations.user_id,
        recommendations.rank,
        recommendations.movie_id,
        unnest(movies.genres) as genre,
    from recommendations
    join movies using (movie_id)
    where list_has_any(movies.genres, (select list(blocked.genre) from blocked where blocked.genre is not null))
),

-- one equality join for each form of a rule, because null does not equal any value
offending as (
    select user_id, rank, movie_id
    from recommendations
    semi join blocked using (user_id, movie_id)
    union all
    select user_id, rank, movie_id
    from recommendations
    semi join blocked_for_all using (movie_id)
    union all
    select user_id, rank, movie_id
    from recommended_genres
    semi join blocked using (user_id, genre)
    union all
    select user_id, rank, movie_id
    from recommended_genres
    semi join blocked_for_all using (genre)
)

select distinct user_id, rank, movie_id
from offending
order by user_id, rank, movie_id
