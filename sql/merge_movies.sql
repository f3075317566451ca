-- merge_movies: of each movie_id what the drops said of it last.
--
-- grain   one row per movie_id; more when one file says different things of it, which is for the checks to judge
-- reads   drop_movies (movie_id, title, year, genres, updated_at, source_file, source_line)
-- params  none
-- ties    the latest updated_at, any before none; then the file whose name, less its ending, sorts last; of equal rows the lowest line
with

last_said as (
    select *
    from drop_movies
    qualify rank() over (
        partition by movie_id
        order by updated_at desc nulls last, regexp_replace(source_file, '\.\w+$', '') desc, source_file desc
    ) = 1
)

select distinct on (movie_id, title, year, genres)
    movie_id, title, year, genres, source_file, source_line
from last_said
order by movie_id, title, year, genres, source_file, source_line
