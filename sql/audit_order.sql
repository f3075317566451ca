-- audit_order: rows with a higher score than the row of the previous rank.
--
-- grain   one row per (user_id, segment, similar_to, rank)
-- reads   lists (user_id, segment, similar_to, rank, movie_id, score)
-- params  none
-- ties    equal scores are valid; equal ranks are sorted by movie_id, and audit_ranks refuses them
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
