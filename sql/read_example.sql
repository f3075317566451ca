-- read_example: of a file of which no line could be read, the first that fails for the commonest reason.
--
-- grain   one row, or none when nothing was refused
-- reads   rejects (source_table, source_line, row)
-- params  $source_table text
-- ties    reasons as common as each other: the one that comes first in the file
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
