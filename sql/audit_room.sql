-- audit_room: lists of users or segments that are shorter than n, although caps leave room for another movie.
--
-- grain   one row per (user_id, segment), for the first 1,000 short lists, because each is checked against every movie
-- reads   lists (user_id, segment, similar_to, movie_id), available (movie_id), ratings (user_id, movie_id),
--         movies (movie_id, genres), blocked (user_id, movie_id, genre), caps (movie_id, group_name, at_most),
--         films (movie_id, film_id), audited (n)
-- params  none
-- ties    none; without caps there are no rows, because audit_length reports the other short lists
with

short as (
    select user_id, segment, row_number() over (order by user_id nulls first, segment) as list_no
    from lists
    where similar_to is null and exists (select caps.movie_id from caps)
    group by user_id, segment
    having count(*) < (select n from audited)
    order by list_no
    limit 1000
),

listed as (
    select short.list_no, lists.movie_id
    from lists
    join short
        on lists.user_id is not distinct from short.user_id and lists.segment is not distinct from short.segment
    where lists.similar_to is null
),

full_groups as (
    select listed.list_no, caps.group_name
    from listed
    join caps using (movie_id)
    group by listed.list_no, caps.group_name, caps.at_most
    having count(*) >= caps.at_most
),

taken as (
    select list_no, movie_id
    from listed
    union all
    select short.list_no, ratings.movie_id
    from short
    join ratings using (user_id)
),

-- reasons why a movie may not be added
closed as (
    select list_no, movie_id
    from taken
    union all
    select taken.list_no, twins.movie_id
    from taken
    join films using (movie_id)
    join films as twins using (film_id)
    union all
    select full_groups.list_no, caps.movie_id
    from full_groups
    join caps using (group_name)
    union all
    select short.list_no, blocked.movie_id
    from short
    join blocked using (user_id)
    where blocked.movie_id is not null
    union all
    select short.list_no, movies.movie_id
    from short
    join blocked using (user_id)
    join movies on list_contains(movies.genres, blocked.genre)
)

select short.user_id, short.segment, min(available.movie_id) as movie_id_with_room, count(*) as n_with_room
from short
cross join available
anti join closed using (list_no, movie_id)
group by short.user_id, short.segment
order by short.user_id, short.segment
