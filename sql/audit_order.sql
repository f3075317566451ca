-- audit_order: rows with a higher score than the row of the rank before.
--
-- grain   one row per (user_id, segment, similar_to, rank)
-- reads   lists (user_id, segment, similar_to, rank, movie_id, score)
-- params  none
-- ties    equal scores are valid; equal ranks, which audit_ranks refuses, are sorted by movie_id
with

neighbours as (
    select
        user_id,
        segment,
        similar_to,
        rank,
        score,
        lag(score) over (partition by user_id, segment, similar_to order by rank, movie_id) as score_before,
    from lists
    where isfinite(score)
)

select user_id, segment, similar_to, rank, score, score_before
from neighbours
where score > score_before
order by user_id, segment, similar_to, rank
