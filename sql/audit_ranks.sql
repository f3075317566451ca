-- audit_ranks: rows whose rank leaves a gap, repeats another rank, or does not start at 1.
--
-- grain   one row per row of a list with an unexpected rank
-- reads   lists (user_id, segment, similar_to, rank)
-- params  none
-- ties    the second of two rows with the same rank is reported
with

-- comparing one array of ranks per list costs half as much as numbering every row; only wrong lists are numbered
wrong as (
    select user_id, segment, similar_to, list_sort(list(rank)) as ranks
    from lists
    group by user_id, segment, similar_to
    having list_sort(list(rank)) <> range(1, count(*) + 1)
),

places as (
    select
        user_id,
        segment,
        similar_to,
        unnest(ranks) as rank,
        generate_subscripts(ranks, 1) as rank_expected,
    from wrong
)

select user_id, segment, similar_to, rank, rank_expected
from places
where rank <> rank_expected
order by user_id, segment, similar_to, rank_expected
