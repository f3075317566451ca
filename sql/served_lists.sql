-- served_lists: the served lists, if a run of this dataset published them.
--
-- grain   one row per (user_id, rank); none if another dataset is served
-- reads   recommendations (user_id, rank, movie_id, run_id), runs (run_id, dataset)
-- params  $dataset varchar
-- ties    none, (user_id, rank) is unique
select recommendations.user_id, recommendations.rank, recommendations.movie_id
from recommendations
inner join runs using (run_id)
where runs.dataset = $dataset
order by recommendations.user_id, recommendations.rank
