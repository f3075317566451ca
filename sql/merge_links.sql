-- merge_links: the latest links of each movie_id in the drops.
--
-- grain   one row per movie_id; more if a file has different rows for it, which the checks refuse
-- reads   drop_links (movie_id, imdb_id, tmdb_id, source_file, source_line)
-- params  none
-- ties    the file whose name without extension sorts last; among equal rows, the lowest line
with

last_said as (
    select *
    from drop_links
    qualify rank() over (
        partition by movie_id
        order by regexp_replace(source_file, '\.\w+$', '') desc, source_file desc
    ) = 1
)

select distinct on (movie_id, imdb_id, tmdb_id)
    movie_id, imdb_id, tmdb_id, source_file, source_line
from last_said
order by movie_id, imdb_id, tmdb_id, source_file, source_line
