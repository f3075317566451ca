-- rule_rating_unique: ratings that the user replaced with a later rating of the same movie.
--
-- grain   one row per offending rating: all but one per (user_id, movie_id)
-- reads   ratings (user_id, movie_id, rating, rated_at, file_row_number),
--         source_lines (source_table, file_row_number, source_file, source_line)
-- params  none
-- ties    the latest rating is kept; among these, the highest, then the lowest source file and line, then the lowest
--         row of the snapshot
with

-- one list per user takes a third of the memory of one group per pair; only the remaining few users are grouped by pair
repeating_users as (
    select ratings.user_id
    from ratings
    group by ratings.user_id
    having count(*) > list_unique(list(ratings.movie_id))
),

their_ratings as (
    select ratings.*
    from ratings
    semi join repeating_users using (user_id)
),

repeated_pairs as (
    select their_ratings.user_id, their_ratings.movie_id
    from their_ratings
    group by their_ratings.user_id, their_ratings.movie_id
    having count(*) > 1
),

repeated as (
    select their_ratings.*
    from their_ratings
    semi join repeated_pairs using (user_id, movie_id)
),

-- a join with the lines of all ratings would hold all of them in memory
repeated_lines as (
    select source_lines.file_row_number, source_lines.source_file, source_lines.source_line
    from source_lines
    semi join repeated using (file_row_number)
    where source_lines.source_table = 'ratings'
),

ranked as (
    select
        repeated.*,
        row_number() over (
            partition by repeated.user_id, repeated.movie_id
            order by
                repeated.rated_at desc,
                repeated.rating desc,
                repeated_lines.source_file,
                repeated_lines.source_line,
                repeated.file_row_number,
        ) as rank
    from repeated
    left join repeated_lines using (file_row_number)
)

select ranked.* exclude (rank)
from ranked
where ranked.rank > 1
