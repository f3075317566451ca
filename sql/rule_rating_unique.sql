-- rule_rating_unique: ratings that the same user has replaced by another one of the same movie.
--
-- grain   one row per offending rating: of each (user_id, movie_id) all but one
-- reads   ratings (user_id, movie_id, rating, rated_at, file_row_number),
--         source_lines (source_table, file_row_number, source_line)
-- params  none
-- ties    the latest stays, then the highest rating, the lowest source line, the lowest row of the snapshot
with

rating_lines as (
    select source_lines.file_row_number, source_lines.source_line
    from source_lines
    where source_lines.source_table = 'ratings'
),

repeated_pairs as (
    select ratings.user_id, ratings.movie_id
    from ratings
    group by ratings.user_id, ratings.movie_id
    having count(*) > 1
),

repeated as (
    select ratings.*
    from ratings
    semi join repeated_pairs using (user_id, movie_id)
),

ranked as (
    select
        repeated.*,
        row_number() over (
            partition by repeated.user_id, repeated.movie_id
            order by repeated.rated_at desc, repeated.rating desc, rating_lines.source_line, repeated.file_row_number
        ) as rank
    from repeated
    left join rating_lines using (file_row_number)
)

select ranked.* exclude (rank)
from ranked
where ranked.rank > 1
