-- audit_order: rows whose score is higher than that of the better rank before them.
--
-- grain   one row per (user_id, rank)
-- reads   recommendations (user_id, rank, movie_id, score)
-- params  none
-- ties    equal scores are in order; equal ranks, which audit_ranks refuses, go by movie_id
with

neighbours as (
    select
        user_id,
        rank,
        score,
        lag(score) over (partition by user_id order by rank, movie_id) as score_before,
    from recommendations
    where isfinite(score)
)

select user_id, rank, score, score_before
from neighbours
where score > score_before
order by user_id, rank
