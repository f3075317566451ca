-- audit_lists_ranks: rows of default or similar lists whose rank leaves a gap, repeats another, or does not count from 1.
--
-- grain   one row per (list, rank, movie_id)
-- reads   other_lists (list, rank, movie_id)
-- params  none
-- ties    equal ranks: the lower movie_id first, the second one offends
with

counted as (
    select
        list,
        rank,
        movie_id,
        row_number() over (partition by list order by rank, movie_id) as rank_expected,
    from other_lists
)

select list, rank, movie_id, rank_expected
from counted
where rank <> rank_expected
order by list, rank, movie_id
