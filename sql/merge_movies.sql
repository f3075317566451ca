-- merge_movies: the latest version of each movie_id in the drops.
--
-- grain   one row per movie_id; more if a file has different rows for it or a bad row, which the checks refuse
-- reads   drop_movies (movie_id, title, year, genres, updated_at, source_file, source_line)
-- params  $now timestamptz; later updates are ignored
-- ties    the latest updated_at, nulls last; then the file whose name without extension sorts last; among equal rows,
--         the lowest line
--
-- A row that the checks will refuse does not replace a good row: both are kept, and the checks refuse the bad one. Rows
-- without a title are rejects, so they are not here. An updated_at in the future counts as null, because otherwise no
-- correction could ever replace such a row.
with

marked as (
    select
        *,
        coalesce(year between 1870 and 2100, true) as is_usable,
        case when updated_at <= $now::timestamptz then updated_at end as happened_at
    from drop_movies
),

latest as (
    select *
    from marked
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
from latest
order by movie_id, title, year, genres, source_file, source_line
