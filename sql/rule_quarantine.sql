-- rule_quarantine: every refused line, with the rule that refused it and its content.
--
-- grain   one row per refused line: rows that a rule refused, and lines that could not be read
-- reads   refused (source_table, file_row_number, rule),
--         source_lines (source_table, file_row_number, source_file, source_line),
--         snapshot_ratings, snapshot_movies, snapshot_users, snapshot_tags, snapshot_links,
--         rejects (source_table, source_file, source_line, rule, row)
-- params  none
-- ties    ordered by all columns
with

rating_rows as (
    select
        refused.source_table,
        refused.file_row_number,
        refused.rule,
        json_object(
            'user_id', snapshot_ratings.user_id,
            'movie_id', snapshot_ratings.movie_id,
            'rating', case
                -- cast to text first: 3.7, not 3.700000047683716
                when isfinite(snapshot_ratings.rating) then snapshot_ratings.rating::varchar::json
                -- JSON has no NaN
                else to_json(snapshot_ratings.rating::varchar)
            end,
            'rated_at', strftime(snapshot_ratings.rated_at at time zone 'UTC', '%Y-%m-%dT%H:%M:%SZ'),
        ) as row
    from snapshot_ratings
    join refused using (file_row_number)
    where refused.source_table = 'ratings'
),

movie_rows as (
    select
        refused.source_table,
        refused.file_row_number,
        refused.rule,
        json_object(
            'movie_id', snapshot_movies.movie_id,
            'title', snapshot_movies.title,
            'year', snapshot_movies.year,
            'genres', snapshot_movies.genres,
        ) as row
    from snapshot_movies
    join refused using (file_row_number)
    where refused.source_table = 'movies'
),

user_rows as (
    select
        refused.source_table,
        refused.file_row_number,
        refused.rule,
        json_object(
            'user_id', snapshot_users.user_id,
            'gender', snapshot_users.gender,
            'age', snapshot_users.age,
            'occupation', snapshot_users.occupation,
            'zip_code', snapshot_users.zip_code,
        ) as row
    from snapshot_users
    join refused using (file_row_number)
    where refused.source_table = 'users'
),

tag_rows as (
    select
        refused.source_table,
        refused.file_row_number,
        refused.rule,
        json_object(
            'user_id', snapshot_tags.user_id,
            'movie_id', snapshot_tags.movie_id,
            'tag', snapshot_tags.tag,
            'tagged_at', strftime(snapshot_tags.tagged_at at time zone 'UTC', '%Y-%m-%dT%H:%M:%SZ'),
        ) as row
    from snapshot_tags
    join refused using (file_row_number)
    where refused.source_table = 'tags'
),

link_rows as (
    select
        refused.source_table,
        refused.file_row_number,
        refused.rule,
        json_object(
            'movie_id', snapshot_links.movie_id,
            'imdb_id', snapshot_links.imdb_id,
            'tmdb_id', snapshot_links.tmdb_id,
        ) as row
    from snapshot_links
    join refused using (file_row_number)
    where refused.source_table = 'links'
),

refused_rows as (
    select * from rating_rows
    union all
    select * from movie_rows
    union all
    select * from user_rows
    union all
    select * from tag_rows
    union all
    select * from link_rows
)

select
    refused_rows.source_table,
    source_lines.source_file,
    source_lines.source_line,
    refused_rows.rule,
    refused_rows.row::varchar as row,
from refused_rows
join source_lines using (source_table, file_row_number)
union all
select rejects.source_table, rejects.source_file, rejects.source_line, rejects.rule, rejects.row
from rejects
order by source_table, source_file, source_line, rule, row
