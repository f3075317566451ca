-- merge_movies: of each movie_id what the drops said of it last.
--
-- grain   one row per movie_id; more when one file says different things of it, or a bad one, for the checks to judge
-- reads   drop_movies (movie_id, title, year, genres, updated_at, source_file, source_line)
-- params  $now timestamptz, after which nothing has happened
-- ties    the latest updated_at, any before none; then the file whose name, less its ending, sorts last; of equal rows
--         the lowest line
--
-- A row that the checks will refuse, whatever the edition, replaces no good one: it stands beside it, to be refused.
-- (One without a title does not get here: it could not be read.)
-- An update from a time to come is one without a time: else no correction could ever replace it.
with

judged as (
    select
        *,
        coalesce(year between 1870 and 2100, true) as is_usable,
        case when updated_at <= $now::timestamptz then updated_at end as happened_at
    from drop_movies
),

last_said as (
    select *
    from judged
    qualify rank() over (
        partition by movie_id, is_usable
        order by
            happened_at desc nulls last,
            regexp_replace(source_file, '\.\w+$', '') desc,
            source_file desc,
    ) = 1
)

select distinct on (movie_id, title, year, genres)
    movie_id, title, year, genres, source_file, source_line
from last_said
order by movie_id, title, year, genres, source_file, source_line
