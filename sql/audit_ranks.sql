-- audit_ranks: rows whose rank leaves a gap, repeats another, or does not count from 1.
--
-- grain   one row per place of a list that has another rank than it should
-- reads   lists (user_id, segment, similar_to, rank)
-- params  none
-- ties    equal ranks are equal: the second one offends
with

-- a list of numbers per list costs half of what numbering every row does, and few lists are left for that
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
