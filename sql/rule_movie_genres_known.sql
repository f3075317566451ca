-- rule_movie_genres_known: movies with a genre that the edition does not have.
--
-- grain   one row per offending movie
-- reads   movies (movie_id, genres, …), known_genres (genre): empty if any genre is allowed
-- params  none
-- ties    none
with

known as (
    select list(known_genres.genre) as genres
    from known_genres
)

select movies.*
from movies
cross join known
where not list_has_all(known.genres, movies.genres)
