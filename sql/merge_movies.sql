-- merge_movies: the last version of each movie_id in the drops.
--
-- grain   one row per movie_id; more if one file has different rows for it, or there is a bad row, for the checks
-- reads   drop_movies (movie_id, title, year, genres, updated_at, source_file, source_line)
-- params  $now timestamptz; later updates are ignored
-- ties    the latest updated_at, nulls last; then the file whose name without extension sorts last; of equal rows the
--         lowest line
--
-- A row that the checks will refuse replaces no good row: both are kept, and the checks refuse the bad one. (A row
-- without a title could not be read, so it is not here.) An updated_at in the future counts as null, because no
-- correction could ever replace such a row.
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
