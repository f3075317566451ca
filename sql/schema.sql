-- schema: every table and view of warehouse.duckdb, what each column means, and its unit.
--
-- grain   the comment of each table says it
-- reads   nothing; runs once, on an empty file
-- params  none
-- ties    rows are inserted in the order of the keys named here
--
-- `recommendations` has no primary key: its index would cost more than the table, and the audit proves the same.

create table movies (
    movie_id integer primary key,
    title varchar not null,
    year smallint,
    genres varchar[] not null,
    n_ratings bigint,
);

comment on table movies is 'Movies as ingested; one row per movie_id.';
comment on column movies.movie_id is 'MovieLens id.';
comment on column movies.title is 'As published, without the year.';
comment on column movies.year is 'Year of release; null where the title states none.';
comment on column movies.genres is 'Empty where none are listed.';
comment on column movies.n_ratings is
    'Ratings known to the run that published the table; null where an older version published it.';

create table users (
    user_id integer primary key,
    gender varchar,
    age smallint,
    occupation varchar,
    zip_code varchar,
);

comment on table users is 'Users as ingested; one row per user_id. What the edition does not give is null.';
comment on column users.user_id is 'MovieLens id.';
comment on column users.gender is 'M or F.';
comment on column users.age is 'Years; ML-1M gives the lower end of a range.';
comment on column users.occupation is 'One of the occupations the edition lists.';
comment on column users.zip_code is 'Postal code as the user typed it.';

create table recommendations (
    user_id integer not null,
    rank integer not null,
    movie_id integer not null,
    score double not null,
    rating_hat double not null,
    because_movie_ids integer[] not null,
    served_by varchar not null default 'history',
    run_id varchar not null,
);

comment on table recommendations is
    'Tonight''s movies for every user, none of them rated yet; one row per (user_id, rank), sorted so.';
comment on column recommendations.user_id is 'For whom; see users.';
comment on column recommendations.rank is 'Place in the user''s list, without gaps; 1 = best.';
comment on column recommendations.movie_id is 'What; see movies.';
comment on column recommendations.score is
    'Orders the list, higher = better. Has no unit: compare it within one user only.';
comment on column recommendations.rating_hat is 'Expected stars, not clipped to the scale. Does not order the list.';
comment on column recommendations.because_movie_ids is
    'Movies the user has rated that speak loudest for this one, the loudest first, three at most; empty where none does.';
comment on column recommendations.served_by is
    'What the list is made from, the same in all its rows: history (ten ratings of the user or more), few ratings (one to nine), features (no rating, but gender, age or occupation) or default (nothing is known).';
comment on column recommendations.run_id is 'The run that published the table, the same in every row; see runs.';

-- A plain join and group by, so that a filter on user_id reaches the table: one user's list then costs milliseconds.
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

comment on view recommendations_named is 'recommendations with the names of its movies; one row per (user_id, rank).';
comment on column recommendations_named.user_id is 'For whom; see users.';
comment on column recommendations_named.rank is 'Place in the user''s list; 1 = best.';
comment on column recommendations_named.movie_id is 'What; see movies.';
comment on column recommendations_named.title is 'The movie''s title, without the year.';
comment on column recommendations_named.year is 'The movie''s year of release, or null.';
comment on column recommendations_named.genres is 'The movie''s genres.';
comment on column recommendations_named.score is 'Orders the list, higher = better; compare it within one user only.';
comment on column recommendations_named.rating_hat is 'Expected stars, not clipped to the scale.';
comment on column recommendations_named.because_movie_ids is 'Movies the user has rated that speak for this one.';
comment on column recommendations_named.because_titles is 'Their titles, in the same order.';
comment on column recommendations_named.served_by is 'What the list is made from; see recommendations.';
comment on column recommendations_named.run_id is 'The run that published the table; see runs.';

create table recommendation_history (
    run_id varchar not null,
    as_of timestamptz not null,
    user_id integer not null,
    rank integer not null,
    movie_id integer not null,
    score double not null,
);

comment on table recommendation_history is
    'The lists of the latest runs that published or were backfilled, the newest included; one row per (run_id, user_id, rank), the oldest as_of first. How many runs is the setting history.runs.';
comment on column recommendation_history.run_id is 'The run that made the list; see runs.';
comment on column recommendation_history.as_of is 'Only ratings before this moment were used; the same in all rows of a run.';
comment on column recommendation_history.user_id is 'For whom; one who has been forgotten since is gone.';
comment on column recommendation_history.rank is 'Place in the user''s list, without gaps; 1 = best.';
comment on column recommendation_history.movie_id is 'What; see movies.';
comment on column recommendation_history.score is
    'Orders the list, higher = better; compare it within one run and user only.';

create macro recommendations_as_of(moment) as table
with

newest as (
    select arg_max(run_id, (as_of, run_id)) as run_id
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
from recommendation_history
semi join newest using (run_id);

comment on macro table recommendations_as_of is
    'recommendations_as_of(moment): the lists of the run with the latest as_of up to a moment, as far back as recommendation_history goes. Where the file is attached under another name, put that name into search_path first.';

-- Of two runs with the same as_of the later one is the newer.
create view recommendation_changes as
with

runs_kept as (
    select distinct run_id, as_of
    from recommendation_history
),

served as (
    select runs_kept.run_id, runs_kept.as_of
    from runs_kept
    where runs_kept.run_id = (select any_value(run_id) from recommendations)
),

earlier as (
    select arg_max(runs_kept.run_id, (runs_kept.as_of, runs_kept.run_id)) as run_id
    from runs_kept
    cross join served
    where (runs_kept.as_of, runs_kept.run_id) < (served.as_of, served.run_id)
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
from now
full join before on now.user_id = before.user_id and now.movie_id = before.movie_id
where now.rank is distinct from before.rank and (select run_id from earlier) is not null;

comment on view recommendation_changes is
    'How the lists being served differ from those of the run before; one row per (user_id, movie_id) that entered a list, left it or moved in it. Empty where there is no run before.';
comment on column recommendation_changes.user_id is 'Whose list; see users.';
comment on column recommendation_changes.movie_id is 'What; see movies.';
comment on column recommendation_changes.change is 'entered, left or moved.';
comment on column recommendation_changes.rank_before is 'Its place in the list before; null if it has entered.';
comment on column recommendation_changes.rank is 'Its place in the list now; null if it has left.';
comment on column recommendation_changes.run_id_before is 'The run before, by as_of; see runs.';
comment on column recommendation_changes.run_id is 'The run that is being served; see runs.';

create table default_recommendations (
    segment varchar not null,
    rank integer not null,
    movie_id integer not null,
    score double not null,
    run_id varchar not null,
);

comment on table default_recommendations is
    'Tonight''s movies for users the model does not know, by what is known of them; one row per (segment, rank), sorted so.';
comment on column default_recommendations.segment is
    'For whom: all, or what a user must be, e.g. gender=F, or gender=F age=25; the words of users.';
comment on column default_recommendations.rank is 'Place in the segment''s list, without gaps; 1 = best.';
comment on column default_recommendations.movie_id is 'What; see movies.';
comment on column default_recommendations.score is
    'Orders the list, higher = better. Has no unit: compare it within one segment only.';
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
    'default_recommendations with the names of its movies; one row per (segment, rank).';
comment on column default_recommendations_named.segment is 'For whom: all, or what a user must be.';
comment on column default_recommendations_named.rank is 'Place in the segment''s list; 1 = best.';
comment on column default_recommendations_named.movie_id is 'What; see movies.';
comment on column default_recommendations_named.title is 'The movie''s title, without the year.';
comment on column default_recommendations_named.year is 'The movie''s year of release, or null.';
comment on column default_recommendations_named.genres is 'The movie''s genres.';
comment on column default_recommendations_named.score is
    'Orders the list, higher = better; compare it within one segment only.';
comment on column default_recommendations_named.run_id is 'The run that published the table; see runs.';

create table similar_movies (
    movie_id integer not null,
    rank integer not null,
    similar_movie_id integer not null,
    similarity double not null,
    run_id varchar not null,
);

comment on table similar_movies is
    'The movies most similar to each that somebody rated, by who watches it, who likes it and what it is; one row per (movie_id, rank), sorted so.';
comment on column similar_movies.movie_id is 'To which; see movies.';
comment on column similar_movies.rank is 'Place in the movie''s list, without gaps; 1 = most similar.';
comment on column similar_movies.similar_movie_id is 'What; see movies.';
comment on column similar_movies.similarity is
    'Orders the list, higher = more similar; a mean of cosines, at most 1. Compare it within one movie only.';
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

comment on view similar_movies_named is 'similar_movies with the names of its movies; one row per (movie_id, rank).';
comment on column similar_movies_named.movie_id is 'To which; see movies.';
comment on column similar_movies_named.title is 'Its title, without the year.';
comment on column similar_movies_named.year is 'Its year of release, or null.';
comment on column similar_movies_named.rank is 'Place in its list; 1 = most similar.';
comment on column similar_movies_named.similar_movie_id is 'What; see movies.';
comment on column similar_movies_named.similar_title is 'The similar movie''s title, without the year.';
comment on column similar_movies_named.similar_year is 'The similar movie''s year of release, or null.';
comment on column similar_movies_named.similar_genres is 'The similar movie''s genres.';
comment on column similar_movies_named.similarity is
    'Orders the list, higher = more similar; compare it within one movie only.';
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
);

comment on table runs is
    'Every night, those that published nothing too; one row per run_id. What a night never learned is null.';
comment on column runs.run_id is 'When the run began, UTC, e.g. 20261121T030000Z; sorts by time.';
comment on column runs.as_of is 'Only ratings before this moment were used.';
comment on column runs.started_at is 'When the run began.';
comment on column runs.finished_at is 'When its verdict was known.';
comment on column runs.dataset is 'Name of the data set, e.g. ml-1m.';
comment on column runs.snapshot is 'First 12 hexadecimal digits of the SHA-256 of its content.';
comment on column runs.model is 'The network that was chosen.';
comment on column runs.config_hash is 'Equal for runs with equal settings.';
comment on column runs.code_version is 'Version of the program.';
comment on column runs.verdict is
    'published; unchanged (the lists were those being served already); backfilled (an earlier night, only in recommendation_history); rolled back (the lists of another run were put back) or released (nights may publish again after that); data refused, held back or failed.';
comment on column runs.reason is
    'Why nothing was published, in words; of a run that was published against the gate what the gate said, of a roll-back which run; null otherwise.';
comment on column runs.published is 'True if the run''s recommendations were served.';
comment on column runs.champion is
    'The run that was being served and whose model was measured beside this one''s; null where there was none to compare.';

create table run_steps (
    run_id varchar not null,
    step varchar not null,
    seconds double not null,
    primary key (run_id, step),
);

comment on table run_steps is
    'How long each step of a run took, up to its publishing; one row per (run_id, step), in the order in which they ended.';
comment on column run_steps.run_id is 'See runs.';
comment on column run_steps.step is 'As the flow names it, e.g. train_for_tonight.';
comment on column run_steps.seconds is 'From its start to its end.';

create table metrics (
    run_id varchar not null,
    model varchar not null,
    split varchar not null,
    slice varchar not null,
    metric varchar not null,
    value double not null,
    primary key (run_id, model, split, slice, metric),
);

comment on table metrics is 'Figures of every run in long form; one row per (run_id, model, split, slice, metric).';
comment on column metrics.run_id is 'See runs.';
comment on column metrics.model is 'A network; what it is measured beside, as bias, popularity, or ease and als that make lists alone; champion: the model that was served, on the rows that it never learned from; or snapshot: the data themselves.';
comment on column metrics.split is 'The ratings it was measured on: validation or holdout (holdout_time and holdout_last where the newest were held out); tonight is the lists that are published; source is all that came.';
comment on column metrics.slice is 'The part of the split: all, e.g. genre=Drama, e.g. predicted=0.6-0.7, a bin of predicted probability, e.g. rule=blocked[0], what a rule costs, or against=champion, the rows on which the champion was compared, and against=champion genre=Drama, a part of these.';
comment on column metrics.metric is 'What is measured, then the decoder or the cut: mae_median, ndcg_at_10; ndcg_at_10_low and _high are the ends of its 95% interval over users; mae_median_difference is that of the model less the champion''s, and its ends leave chance no more than the setting gate.false_refusals; coverage_at_10_ratio is over the champion''s.';
comment on column metrics.value is 'Stars for mae and rmse, bits for novelty, seconds for names that end so, else without unit.';

create table quarantine (
    run_id varchar not null,
    source_table varchar not null,
    source_file varchar,
    source_line bigint not null,
    rule varchar not null,
    row json not null,
);

comment on table quarantine is 'Rows of the source that a run refused to use; one row per refused row and run.';
comment on column quarantine.run_id is 'See runs.';
comment on column quarantine.source_table is 'ratings, movies, users, tags, links or retractions.';
comment on column quarantine.source_file is 'Name of the source file, without its folder; null for runs from before it was kept.';
comment on column quarantine.source_line is 'Line of the source file; 1 = its first.';
comment on column quarantine.rule is 'The rule that the row breaks.';
comment on column quarantine.row is 'The row as it was read.';
