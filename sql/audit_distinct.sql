-- audit_distinct: films that appear more than once in one list, under one movie_id or several.
--
-- grain   one row per list (user_id, segment, similar_to) and film
-- reads   lists (user_id, segment, similar_to, movie_id), films (movie_id, film_id)
-- params  none
-- ties    the lowest movie_id in the list names the film
select
    lists.user_id,
    lists.segment,
    lists.similar_to,
    min(lists.movie_id) as movie_id,
    count(*) as n_times,
from lists
left join films using (movie_id)
group by lists.user_id, lists.segment, lists.similar_to, coalesce(films.film_id, lists.movie_id)
having count(*) > 1
order by lists.user_id, lists.segment, lists.similar_to, min(lists.movie_id)
