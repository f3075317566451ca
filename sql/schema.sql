-- schema: every table, view and macro of warehouse.duckdb, with the meaning and unit of each column.
--
-- grain   stated in the comment of each table
-- reads   nothing; runs once on an empty file
-- params  none
-- ties    rows are inserted in the order of the keys in the comments
--
-- `recommendation_history` has no primary key, because its index would double the file (docs/experiments.md).
-- `quarantine` has no key, because a line may break several rules.

create table movies (
    movie_id integer primary key,
    title varchar not null,
    year smallint,
    genres varchar[] not null,
    n_ratings bigint,
    film_id integer,
);

comment on table movies is 'All movies of the dataset; one row per movie_id.';
comment on column movies.movie_id is 'Identifies the movie, as in MovieLens.';
comment on column movies.title is 'Title without the year of release.';
comment on column movies.year is 'Year of release; null if the title does not contain it.';
comment on column movies.genres is 'Genres of the movie; empty if none are listed.';
comment on column movies.n_ratings is
    'Number of ratings known to the run that published the table; null if an older version of recsys published it.';
comment on column movies.film_id is
    'Identifies the film: the lowest movie_id with the same title and year or the same outside id. A list shows a film once, and not if the user has rated it under any of its movie_ids. Null if an older version of recsys published the table.';

create table users (
    user_id integer primary key,
    gender varchar,
    age smallint,
    occupation varchar,
    zip_code varchar,
    age_band varchar,
    segment varchar,
);

comment on table users is 'All users of the dataset; one row per user_id. Columns that the edition does not provide are null.';
comment on column users.user_id is 'Identifies the user, as in MovieLens.';
comment on column users.gender is 'Gender: M or F.';
comment on column users.age is 'Age in years; in ML-1M the lower end of an age range.';
comment on column users.occupation is 'Occupation, one of those that the edition lists.';
comment on column users.zip_code is 'Postal code as the user entered it.';
comment on column users.age_band is
    'Age band of the segments: its lower end in years, or under 18; null if the age is unknown, or if an older version of recsys published the table.';
comment on column users.segment is
    'The segment of default_recommendations for this user: gender and age band if both are known, else the age band, the gender or the occupation, else all; null if an older version of recsys published the table.';

create table links (
    movie_id integer primary key,
    imdb_id varchar,
    tmdb_id integer,
);

comment on table links is
    'Identifiers of the movies in other databases; one row per movie_id. Empty if the edition does not provide them, or if an older version of recsys published the tables.';
comment on column links.movie_id is 'The movie; see movies.';
comment on column links.imdb_id is 'Identifier in IMDb without the prefix tt, with leading zeros; null if unknown.';
comment on column links.tmdb_id is 'Identifier in The Movie Database; null if unknown.';

create table movie_stats (
    movie_id integer primary key,
    n_ratings bigint not null,
    rating_mean double,
    stars_0_5 bigint not null,
    stars_1 bigint not null,
    stars_1_5 bigint not null,
    stars_2 bigint not null,
    stars_2_5 bigint not null,
    stars_3 bigint not null,
    stars_3_5 bigint not null,
    stars_4 bigint not null,
    stars_4_5 bigint not null,
    stars_5 bigint not null,
    first_rated_at timestamptz,
    last_rated_at timestamptz,
);

comment on table movie_stats is
    'The ratings of every movie that were known to the run, in numbers; one row per movie_id. Empty if an older version of recsys published the tables.';
comment on column movie_stats.movie_id is 'The movie; see movies.';
comment on column movie_stats.n_ratings is 'Number of ratings.';
comment on column movie_stats.rating_mean is 'Mean rating in stars; null without ratings.';
comment on column movie_stats.stars_0_5 is 'Number of ratings of 0.5 stars.';
comment on column movie_stats.stars_1 is 'Number of ratings of 1 star.';
comment on column movie_stats.stars_1_5 is 'Number of ratings of 1.5 stars.';
comment on column movie_stats.stars_2 is 'Number of ratings of 2 stars.';
comment on column movie_stats.stars_2_5 is 'Number of ratings of 2.5 stars.';
comment on column movie_stats.stars_3 is 'Number of ratings of 3 stars.';
comment on column movie_stats.stars_3_5 is 'Number of ratings of 3.5 stars.';
comment on column movie_stats.stars_4 is 'Number of ratings of 4 stars.';
comment on column movie_stats.stars_4_5 is 'Number of ratings of 4.5 stars.';
comment on column movie_stats.stars_5 is 'Number of ratings of 5 stars.';
comment on column movie_stats.first_rated_at is 'Time of the first rating; null without ratings.';
comment on column movie_stats.last_rated_at is 'Time of the last rating; null without ratings.';

create table user_stats (
    user_id integer primary key,
    segment varchar not null,
    age_band varchar,
    n_ratings bigint not null,
    rating_mean double,
    stars_0_5 bigint not null,
    stars_1 bigint not null,
    stars_1_5 bigint not null,
    stars_2 bigint not null,
    stars_2_5 bigint not null,
    stars_3 bigint not null,
    stars_3_5 bigint not null,
    stars_4 bigint not null,
    stars_4_5 bigint not null,
    stars_5 bigint not null,
    first_rated_at timestamptz,
    last_rated_at timestamptz,
);

comment on table user_stats is
    'The ratings of every user that were known to the run, in numbers; one row per user_id. Empty if an older version of recsys published the tables.';
comment on column user_stats.user_id is 'The user; see users.';
comment on column user_stats.segment is 'The segment of default_recommendations for this user; see users.segment.';
comment on column user_stats.age_band is 'Age band of the segments: its lower end in years, or under 18; null if the age is unknown.';
comment on column user_stats.n_ratings is 'Number of ratings.';
comment on column user_stats.rating_mean is 'Mean rating in stars; null without ratings.';
comment on column user_stats.stars_0_5 is 'Number of ratings of 0.5 stars.';
comment on column user_stats.stars_1 is 'Number of ratings of 1 star.';
comment on column user_stats.stars_1_5 is 'Number of ratings of 1.5 stars.';
comment on column user_stats.stars_2 is 'Number of ratings of 2 stars.';
comment on column user_stats.stars_2_5 is 'Number of ratings of 2.5 stars.';
comment on column user_stats.stars_3 is 'Number of ratings of 3 stars.';
comment on column user_stats.stars_3_5 is 'Number of ratings of 3.5 stars.';
comment on column user_stats.stars_4 is 'Number of ratings of 4 stars.';
comment on column user_stats.stars_4_5 is 'Number of ratings of 4.5 stars.';
comment on column user_stats.stars_5 is 'Number of ratings of 5 stars.';
comment on column user_stats.first_rated_at is 'Time of the first rating; null without ratings.';
comment on column user_stats.last_rated_at is 'Time of the last rating; null without ratings.';

create table recommendations (
    user_id integer not null,
    rank integer not null,
    movie_id integer not null,
    score double not null,
    rating_hat double not null,
    because_movie_ids integer[] not null,
    served_by varchar not null default 'history',
    run_id varchar not null,
    primary key (user_id, rank),
);

comment on table recommendations is
    'The recommended movies of every user, none of which the user has rated; one row per (user_id, rank), in that order.';
comment on column recommendations.user_id is 'The user who receives the list; see users.';
comment on column recommendations.rank is 'Position in the user''s list, without gaps; 1 = best.';
comment on column recommendations.movie_id is 'The recommended movie; see movies.';
comment on column recommendations.score is
    'Sort key of the list, higher = better. It has no unit and is comparable only within the list of one user.';
comment on column recommendations.rating_hat is 'Expected rating in stars, not clipped to the scale. The list is not sorted by it.';
comment on column recommendations.because_movie_ids is
    'Up to three movies rated by the user that contribute most to this recommendation, the strongest first; empty if none contributes.';
comment on column recommendations.served_by is
    'The data that the list is based on, the same in all its rows: history (at least ten ratings of the user), few ratings (one to nine), features (no rating, but gender, age or occupation) or default (no data about the user).';
comment on column recommendations.run_id is 'The run that published the table, the same in every row; see runs.';

-- A plain join and group by, so that a filter on user_id is pushed down: one user's list takes milliseconds.
create view recommendations_named as
with

reasons as (
    select
        user_id,
        rank,
        unnest(because_movie_ids) as movie_id,
        generate_subscripts(because_movie_ids, 1) as place,
    from recommendations
),

because as (
    select reasons.user_id, reasons.rank, list(movies.title order by reasons.place) as because_titles
    from reasons
    inner join movies using (movie_id)
    group by reasons.user_id, reasons.rank
)

select
    recommendations.user_id,
    recommendations.rank,
    recommendations.movie_id,
    movies.title,
    movies.year,
    movies.genres,
    recommendations.score,
    recommendations.rating_hat,
    recommendations.because_movie_ids,
    coalesce(because.because_titles, []) as because_titles,
    recommendations.served_by,
    recommendations.run_id,
from recommendations
inner join movies using (movie_id)
left join because using (user_id, rank);

comment on view recommendations_named is 'The table recommendations with the titles of its movies; one row per (user_id, rank).';
comment on column recommendations_named.user_id is 'The user who receives the list; see users.';
comment on column recommendations_named.rank is 'Position in the user''s list; 1 = best.';
comment on column recommendations_named.movie_id is 'The recommended movie; see movies.';
comment on column recommendations_named.title is 'The movie''s title, without the year.';
comment on column recommendations_named.year is 'The movie''s year of release, or null.';
comment on column recommendations_named.genres is 'The movie''s genres.';
comment on column recommendations_named.score is 'Sort key of the list, higher = better; comparable only within the list of one user.';
comment on column recommendations_named.rating_hat is 'Expected rating in stars, not clipped to the scale.';
comment on column recommendations_named.because_movie_ids is 'Movies rated by the user that contribute most to this recommendation.';
comment on column recommendations_named.because_titles is 'The titles of because_movie_ids, in the same order.';
comment on column recommendations_named.served_by is 'The data that the list is based on; see recommendations.served_by.';
comment on column recommendations_named.run_id is 'The run that published the table; see runs.';

create table recommendation_history (
    run_id varchar not null,
    as_of timestamptz not null,
    user_id integer not null,
    rank integer not null,
    movie_id integer not null,
    score double not null,
    rating_hat float,
    because_movie_ids integer[],
);

comment on table recommendation_history is
    'The lists of the latest runs, published or backfilled, including the newest; one row per (run_id, user_id, rank), the oldest as_of first. The setting history.runs limits the number of runs.';
comment on column recommendation_history.run_id is 'The run that made the list; see runs.';
comment on column recommendation_history.as_of is 'The run used only ratings before this time; the same in all rows of a run.';
comment on column recommendation_history.user_id is 'The user who received the list. Users who asked to be forgotten are removed.';
comment on column recommendation_history.rank is 'Position in the user''s list, without gaps; 1 = best.';
comment on column recommendation_history.movie_id is 'The recommended movie; see movies.';
comment on column recommendation_history.score is
    'Sort key of the list, higher = better; comparable only within one list.';
comment on column recommendation_history.rating_hat is
    'Expected rating in stars, not clipped to the scale; null if an older version of recsys made the list.';
comment on column recommendation_history.because_movie_ids is
    'Movies rated by the user that contribute most to this recommendation, the strongest first; null if an older version of recsys made the list.';

-- The movies of a run on another dataset may be missing from `movies`.
create view recommendation_history_named as
with

reasons as (
    select
        run_id,
        user_id,
        rank,
        unnest(because_movie_ids) as movie_id,
        generate_subscripts(because_movie_ids, 1) as place,
    from recommendation_history
),

because as (
    select reasons.run_id, reasons.user_id, reasons.rank, list(movies.title order by reasons.place) as because_titles
    from reasons
    inner join movies using (movie_id)
    group by reasons.run_id, reasons.user_id, reasons.rank
)

select
    recommendation_history.run_id,
    recommendation_history.as_of,
    recommendation_history.user_id,
    recommendation_history.rank,
    recommendation_history.movie_id,
    movies.title,
    movies.year,
    movies.genres,
    recommendation_history.score,
    recommendation_history.rating_hat,
    recommendation_history.because_movie_ids,
    case
        when recommendation_history.because_movie_ids is not null then coalesce(because.because_titles, [])
    end as because_titles,
from recommendation_history
left join movies using (movie_id)
left join because using (run_id, user_id, rank);

comment on view recommendation_history_named is
    'The table recommendation_history with the titles of its movies; one row per (run_id, user_id, rank).';
comment on column recommendation_history_named.run_id is 'The run that made the list; see runs.';
comment on column recommendation_history_named.as_of is 'The run used only ratings before this time; the same in all rows of a run.';
comment on column recommendation_history_named.user_id is 'The user who received the list; see users.';
comment on column recommendation_history_named.rank is 'Position in the user''s list; 1 = best.';
comment on column recommendation_history_named.movie_id is 'The recommended movie; see movies.';
comment on column recommendation_history_named.title is 'The movie''s title, without the year; null if the movie is no longer in movies.';
comment on column recommendation_history_named.year is 'The movie''s year of release, or null.';
comment on column recommendation_history_named.genres is 'The movie''s genres; null if the movie is no longer in movies.';
comment on column recommendation_history_named.score is 'Sort key of the list, higher = better; comparable only within one list.';
comment on column recommendation_history_named.rating_hat is 'Expected rating in stars, not clipped to the scale; null for runs of older versions.';
comment on column recommendation_history_named.because_movie_ids is 'Movies rated by the user that contribute most to this recommendation; null for runs of older versions.';
comment on column recommendation_history_named.because_titles is 'The titles of because_movie_ids, in the same order; null for runs of older versions.';

create macro recommendations_as_of(moment) as table
with

newest as (
    select arg_max(run_id, (as_of, rowid)) as run_id
    from recommendation_history
    where as_of <= moment::timestamptz
)

select
    recommendation_history.user_id,
    recommendation_history.rank,
    recommendation_history.movie_id,
    recommendation_history.score,
    recommendation_history.as_of,
    recommendation_history.run_id,
    recommendation_history.rating_hat,
    recommendation_history.because_movie_ids,
from recommendation_history
semi join newest using (run_id);

comment on macro table recommendations_as_of is
    'recommendations_as_of(moment): the lists of the run with the latest as_of up to that time, from recommendation_history. If the file is attached under another name, add that name to search_path first.';

create table default_recommendations (
    segment varchar not null,
    rank integer not null,
    movie_id integer not null,
    score double not null,
    run_id varchar not null,
    primary key (segment, rank),
);

comment on table default_recommendations is
    'The recommended movies for users without a list of their own, by segment; one row per (segment, rank), in that order.';
comment on column default_recommendations.segment is
    'The users that the list is for: all, or values of columns of users, e.g. gender=F or gender=F age=25.';
comment on column default_recommendations.rank is 'Position in the segment''s list, without gaps; 1 = best.';
comment on column default_recommendations.movie_id is 'The recommended movie; see movies.';
comment on column default_recommendations.score is
    'Sort key of the list, higher = better. It has no unit and is comparable only within the list of one segment.';
comment on column default_recommendations.run_id is
    'The run that published the table, the same in every row; see runs.';

create view default_recommendations_named as
select
    default_recommendations.segment,
    default_recommendations.rank,
    default_recommendations.movie_id,
    movies.title,
    movies.year,
    movies.genres,
    default_recommendations.score,
    default_recommendations.run_id,
from default_recommendations
inner join movies using (movie_id);

comment on view default_recommendations_named is
    'The table default_recommendations with the titles of its movies; one row per (segment, rank).';
comment on column default_recommendations_named.segment is 'The users that the list is for; see default_recommendations.segment.';
comment on column default_recommendations_named.rank is 'Position in the segment''s list; 1 = best.';
comment on column default_recommendations_named.movie_id is 'The recommended movie; see movies.';
comment on column default_recommendations_named.title is 'The movie''s title, without the year.';
comment on column default_recommendations_named.year is 'The movie''s year of release, or null.';
comment on column default_recommendations_named.genres is 'The movie''s genres.';
comment on column default_recommendations_named.score is
    'Sort key of the list, higher = better; comparable only within the list of one segment.';
comment on column default_recommendations_named.run_id is 'The run that published the table; see runs.';

create table similar_movies (
    movie_id integer not null,
    rank integer not null,
    similar_movie_id integer not null,
    similarity double not null,
    run_id varchar not null,
    primary key (movie_id, rank),
);

comment on table similar_movies is
    'The most similar movies for every movie with a rating, by viewers, ratings and features; one row per (movie_id, rank), in that order.';
comment on column similar_movies.movie_id is 'The movie for which similar movies are listed; see movies.';
comment on column similar_movies.rank is 'Position in the list of this movie, without gaps; 1 = most similar.';
comment on column similar_movies.similar_movie_id is 'The similar movie; see movies.';
comment on column similar_movies.similarity is
    'Sort key of the list, higher = more similar: a mean of cosines, at most 1. It is comparable only within the list of one movie.';
comment on column similar_movies.run_id is 'The run that published the table, the same in every row; see runs.';

create view similar_movies_named as
select
    similar_movies.movie_id,
    movies.title,
    movies.year,
    similar_movies.rank,
    similar_movies.similar_movie_id,
    others.title as similar_title,
    others.year as similar_year,
    others.genres as similar_genres,
    similar_movies.similarity,
    similar_movies.run_id,
from similar_movies
inner join movies using (movie_id)
inner join movies as others on others.movie_id = similar_movies.similar_movie_id;

comment on view similar_movies_named is 'The table similar_movies with the titles of its movies; one row per (movie_id, rank).';
comment on column similar_movies_named.movie_id is 'The movie for which similar movies are listed; see movies.';
comment on column similar_movies_named.title is 'The title of movie_id, without the year.';
comment on column similar_movies_named.year is 'The year of release of movie_id, or null.';
comment on column similar_movies_named.rank is 'Position in the list of movie_id; 1 = most similar.';
comment on column similar_movies_named.similar_movie_id is 'The similar movie; see movies.';
comment on column similar_movies_named.similar_title is 'The similar movie''s title, without the year.';
comment on column similar_movies_named.similar_year is 'The similar movie''s year of release, or null.';
comment on column similar_movies_named.similar_genres is 'The similar movie''s genres.';
comment on column similar_movies_named.similarity is
    'Sort key of the list, higher = more similar; comparable only within the list of one movie.';
comment on column similar_movies_named.run_id is 'The run that published the table; see runs.';

create table runs (
    run_id varchar primary key,
    as_of timestamptz,
    started_at timestamptz not null,
    finished_at timestamptz not null,
    dataset varchar,
    snapshot varchar,
    model varchar,
    config_hash varchar,
    code_version varchar,
    verdict varchar not null,
    reason varchar,
    published boolean not null,
    champion varchar,
    ratings_path varchar,
);

comment on table runs is
    'Every run, including those that published nothing; one row per run_id, in the order in which they ended (rowid), whatever the clock said. Columns are null if the run ended before their value was known.';
comment on column runs.run_id is 'Identifies the run by its start in UTC, e.g. 20261121T030000Z.';
comment on column runs.as_of is 'The run used only ratings before this time.';
comment on column runs.started_at is 'Start of the run.';
comment on column runs.finished_at is 'Time at which the verdict was reached.';
comment on column runs.dataset is 'Name of the dataset, e.g. ml-1m.';
comment on column runs.snapshot is 'Version of the data: the first 12 hexadecimal digits of the SHA-256 of its content.';
comment on column runs.model is 'The network that the run chose.';
comment on column runs.config_hash is 'Hash of the settings; equal for runs with equal settings.';
comment on column runs.code_version is 'Version of recsys.';
comment on column runs.verdict is
    'Result of the run: published; unchanged (equal lists were already served); backfilled (an earlier night, only in recommendation_history); rolled back (the lists of another run were restored); released (nights may publish again after a rollback); data refused; held back; or failed.';
comment on column runs.reason is
    'The reason why nothing was published. For a run that published: what was unusual, such as limits of the gate that it broke, a champion that could not be compared, or a network that was left out; otherwise null. For a rollback: the restored run.';
comment on column runs.published is 'True if the lists of the run were served at any time.';
comment on column runs.champion is
    'The run that was served at that time and whose model was evaluated for comparison; null if there was none.';
comment on column runs.ratings_path is
    'Parquet file with the ratings that the run used (user_id, movie_id, rating, rated_at), relative to the folder of the warehouse. It exists as long as the snapshot or the folder of the run is kept. Null if the run made no lists, or for runs of older versions.';

create table run_steps (
    run_id varchar not null,
    step varchar not null,
    seconds double not null,
    primary key (run_id, step),
);

comment on table run_steps is
    'Duration of each step of a run up to publishing; one row per (run_id, step), sorted by the end of the step.';
comment on column run_steps.run_id is 'The run; see runs.';
comment on column run_steps.step is 'Name of the step in the flow, e.g. train_for_tonight.';
comment on column run_steps.seconds is 'Duration of the step in seconds.';

create table metrics (
    run_id varchar not null,
    model varchar not null,
    split varchar not null,
    slice varchar not null,
    metric varchar not null,
    value double not null,
    primary key (run_id, model, split, slice, metric),
);

comment on table metrics is 'Metrics of every run in long form; one row per (run_id, model, split, slice, metric).';
comment on column metrics.run_id is 'The run; see runs.';
comment on column metrics.model is 'The model that was measured: a network; a baseline (bias, popularity, ease, als); champion (the model that was served, on rows that it was not trained on); best (the same for an earlier one that is better); or snapshot (the data itself).';
comment on column metrics.split is 'The data of the measurement: validation or holdout ratings (holdout_time or holdout_last if the newest ratings were held out); tonight (the published lists); or source (all ratings that were read).';
comment on column metrics.slice is 'The part of the split: all; a slice such as genre=Drama; a bin of predicted probability such as predicted=0.6-0.7; the effect of a rule such as rule=blocked[0]; against=popularity or against=ease (the lists compared with other lists); against=champion or against=best (the rows of the comparison with these); or a slice of these, such as against=champion genre=Drama.';
comment on column metrics.metric is 'Name of the metric, followed by the decoder or the cutoff, e.g. mae_median, ndcg_at_10. The suffixes _low and _high are the ends of its 95% interval over users. The suffix _difference is the value of the model minus that of the other model or lists that the slice names; the error rate of its interval is the setting gate.false_refusals. The suffix _ratio is the value of the model divided by that of the champion.';
comment on column metrics.value is 'Value of the metric: in stars for mae and rmse, in bits for novelty, in seconds for names that end in seconds, otherwise without unit.';

create table metric_names (
    metric varchar primary key,
    measures varchar not null,
    unit varchar,
    better varchar,
);

comment on table metric_names is 'What each metric in the table metrics measures; one row per metric.';
comment on column metric_names.metric is 'Name of the metric; see metrics.metric.';
comment on column metric_names.measures is 'What the metric measures.';
comment on column metric_names.unit is 'Unit of the value; null if it has none.';
comment on column metric_names.better is
    'Which values are better: up, down, near 1, or as wanted (a matter of taste); null for a count or a part of a table.';

create table quarantine (
    run_id varchar not null,
    source_table varchar not null,
    source_file varchar,
    source_line bigint not null,
    rule varchar not null,
    row json not null,
);

comment on table quarantine is 'Rows of the source that a run refused; one row per refused row and run. Those of the newest 30 runs are kept.';
comment on column quarantine.run_id is 'The run; see runs.';
comment on column quarantine.source_table is 'Table that the row belongs to: ratings, movies, users, tags, links or retractions.';
comment on column quarantine.source_file is 'Name of the source file without its folder; null for runs of older versions.';
comment on column quarantine.source_line is 'Line number in the source file; 1 = first.';
comment on column quarantine.rule is 'Name of the rule that the row breaks.';
comment on column quarantine.row is 'Content of the row as it was read, as JSON.';

-- Of two runs with the same as_of, the later run counts as newer. Ids of another dataset mean other movies.
create view recommendation_changes as
with

runs_kept as (
    select made.run_id, made.as_of, made.place, runs.dataset
    from (select run_id, as_of, min(rowid) as place from recommendation_history group by run_id, as_of) as made
    left join runs using (run_id)
),

served as (
    select runs_kept.run_id, runs_kept.as_of, runs_kept.place, runs_kept.dataset
    from runs_kept
    where runs_kept.run_id = (select any_value(run_id) from recommendations)
),

earlier as (
    select arg_max(runs_kept.run_id, (runs_kept.as_of, runs_kept.place)) as run_id
    from runs_kept
    cross join served
    where
        runs_kept.dataset is not distinct from served.dataset
        and (runs_kept.as_of, runs_kept.place) < (served.as_of, served.place)
),

now as (
    select recommendation_history.*
    from recommendation_history
    semi join served using (run_id)
),

before as (
    select recommendation_history.*
    from recommendation_history
    semi join earlier using (run_id)
),

depth as (
    select greatest((select max(rank) from now), (select max(rank) from before)) as deepest
)

select
    coalesce(now.user_id, before.user_id) as user_id,
    coalesce(now.movie_id, before.movie_id) as movie_id,
    case
        when before.rank is null then 'entered'
        when now.rank is null then 'left'
        else 'moved'
    end as change,
    before.rank as rank_before,
    now.rank as rank,
    (select run_id from earlier) as run_id_before,
    (select run_id from served) as run_id,
    abs(coalesce(before.rank, depth.deepest + 1) - coalesce(now.rank, depth.deepest + 1)) as places,
from now
full join before on now.user_id = before.user_id and now.movie_id = before.movie_id
cross join depth
where now.rank is distinct from before.rank and (select run_id from earlier) is not null;

comment on view recommendation_changes is
    'Differences between the served lists and those of the previous run on the same dataset; one row per (user_id, movie_id) that entered a list, left it or moved within it. Empty if there is no previous run.';
comment on column recommendation_changes.user_id is 'The user whose list changed; see users.';
comment on column recommendation_changes.movie_id is 'The movie that entered, left or moved; see movies.';
comment on column recommendation_changes.change is 'Kind of change: entered, left or moved.';
comment on column recommendation_changes.rank_before is 'Position in the previous list; null if the movie entered.';
comment on column recommendation_changes.rank is 'Position in the served list; null if the movie left.';
comment on column recommendation_changes.run_id_before is 'The previous run by as_of; see runs.';
comment on column recommendation_changes.run_id is 'The run whose lists are served; see runs.';
comment on column recommendation_changes.places is
    'Number of places between both positions. Outside a list counts as the place after the last.';

create view recommendation_changes_named as
select
    recommendation_changes.user_id,
    recommendation_changes.movie_id,
    movies.title,
    movies.year,
    movies.genres,
    recommendation_changes.change,
    recommendation_changes.rank_before,
    recommendation_changes.rank,
    recommendation_changes.places,
    recommendation_changes.run_id_before,
    recommendation_changes.run_id,
from recommendation_changes
left join movies using (movie_id);

comment on view recommendation_changes_named is
    'The view recommendation_changes with the titles of its movies; one row per (user_id, movie_id).';
comment on column recommendation_changes_named.user_id is 'The user whose list changed; see users.';
comment on column recommendation_changes_named.movie_id is 'The movie that entered, left or moved; see movies.';
comment on column recommendation_changes_named.title is 'The movie''s title, without the year; null if the movie is no longer in movies.';
comment on column recommendation_changes_named.year is 'The movie''s year of release, or null.';
comment on column recommendation_changes_named.genres is 'The movie''s genres; null if the movie is no longer in movies.';
comment on column recommendation_changes_named.change is 'Kind of change: entered, left or moved.';
comment on column recommendation_changes_named.rank_before is 'Position in the previous list; null if the movie entered.';
comment on column recommendation_changes_named.rank is 'Position in the served list; null if the movie left.';
comment on column recommendation_changes_named.places is 'Number of places between both positions; see recommendation_changes.places.';
comment on column recommendation_changes_named.run_id_before is 'The previous run by as_of; see runs.';
comment on column recommendation_changes_named.run_id is 'The run whose lists are served; see runs.';
