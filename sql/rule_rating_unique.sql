-- rule_rating_unique: ratings that the same user replaced by a later rating of the same movie.
--
-- grain   one row per offending rating: all but one per (user_id, movie_id)
-- reads   ratings (user_id, movie_id, rating, rated_at, file_row_number),
--         source_lines (source_table, file_row_number, source_file, source_line)
-- params  none
-- ties    the latest is kept, then the highest, the lowest source file and line, the lowest row of the snapshot
with

-- a list per user takes a third of the memory of a group per pair; few users remain for the group per pair
repeating_users as (
    select ratings.user_id
    from ratings
    group by ratings.user_id
    having count(*) > list_unique(list(ratings.movie_id))
),

theirs as (
    select ratings.*
    from ratings
    semi join repeating_users using (user_id)
),

repeated_pairs as (
    select theirs.user_id, theirs.movie_id
    from theirs
    group by theirs.user_id, theirs.movie_id
    having count(*) > 1
),

repeated as (
    select theirs.*
    from theirs
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
