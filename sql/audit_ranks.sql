-- audit_ranks: rows whose rank leaves a gap, repeats another, or does not count from 1.
--
-- grain   one row per (user_id, rank, movie_id)
-- reads   recommendations (user_id, rank, movie_id)
-- params  none
-- ties    equal ranks: the lower movie_id first, the second one offends
with

counted as (
    select
        user_id,
        rank,
        movie_id,
        row_number() over (partition by user_id order by rank, movie_id) as rank_expected,
    from recommendations
)

select user_id, rank, movie_id, rank_expected
from counted
where rank <> rank_expected
order by user_id, rank, movie_id
