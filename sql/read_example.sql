-- read_example: the first line with the most common problem, in a file without any readable line.
--
-- grain   one row, or none when nothing was refused
-- reads   rejects (source_table, source_line, row)
-- params  $source_table text
-- ties    among equally common problems, the one that occurs first in the file
with

reasons as (
    select
        rejects.source_line,
        rejects.row ->> '$.line' as line,
        rejects.row ->> '$.why' as why,
        split_part(rejects.row ->> '$.why', ' ', 1) as field
    from rejects
    where rejects.source_table = $source_table
)

select source_line, line, why
from reasons
order by count(*) over (partition by field) desc, source_line
limit 1
