-- find_place: the rank of a movie in a user's list, and the run that published the lists.
--
-- grain   one row; rank is null if the movie is not in the list
-- reads   recommendations (user_id, rank, movie_id, run_id)
-- params  $user_id integer, $movie_id integer
-- ties    none, a movie occurs once in a list
select
    any_value(run_id) as run_id,
    any_value(rank) filter (user_id = $user_id and movie_id = $movie_id) as rank,
from recommendations
