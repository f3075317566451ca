-- A dashboard in plain SQL: one query per tile. Paste them into any BI tool that has DuckDB's driver, or run
--
--     duckdb -readonly data/warehouse.duckdb < docs/examples/dashboard.sql

-- tile: the age of the lists
select run_id, dataset, as_of, published, date_diff('hour', finished_at, now()) as hours_ago
from runs
where run_id = (select any_value(run_id) from recommendations);

-- tile: nights by verdict
select verdict, count(*) as nights, max(started_at) as latest
from runs
group by verdict
order by nights desc, verdict;

-- tile: error of the network in each night, in stars
select runs.started_at, metrics.model, metrics.value as mae_median
from metrics
inner join runs using (run_id)
where metrics.metric = 'mae_median' and metrics.slice = 'all' and metrics.split like 'holdout%'
order by runs.started_at, metrics.model;

-- tile: users by what their list is based on
select served_by, count(distinct user_id) as users
from recommendations
group by served_by
order by users desc, served_by;

-- tile: the ten movies that are shown most
select title, year, count(*) as users, min(rank) as best_rank
from recommendations_named
group by movie_id, title, year
order by users desc, movie_id
limit 10;

-- tile: lines that were refused, by rule
select runs.started_at, quarantine.source_table, quarantine.rule, count(*) as lines
from quarantine
inner join runs using (run_id)
group by all
order by runs.started_at desc, lines desc, quarantine.rule;
