-- recommend_default: the default list of a segment with the names of its movies, in the columns of recommend.
--
-- grain   one row per rank
-- reads   default_recommendations_named (run_id, segment, rank, movie_id, title, year, score)
-- params  $segment varchar
-- ties    none, rank is unique
select
    run_id,
    rank,
    movie_id,
    title,
    year,
    score,
    cast(null as float) as rating_hat,
    cast([] as integer[]) as because_movie_ids,
    cast([] as varchar[]) as because_titles,
    case when segment = 'all' then 'default' else 'features' end as served_by,
from default_recommendations_named
where segment = $segment
order by rank
