-- audit_lists_order: rows of default or similar lists whose score is higher than that of the better rank before them.
--
-- grain   one row per (list, rank)
-- reads   other_lists (list, rank, movie_id, score)
-- params  none
-- ties    equal scores are in order; equal ranks, which audit_lists_ranks refuses, go by movie_id
with

neighbours as (
    select
        list,
        rank,
        score,
        lag(score) over (partition by list order by rank, movie_id) as score_before,
    from other_lists
    where isfinite(score)
)

select list, rank, score, score_before
from neighbours
where score > score_before
order by list, rank
