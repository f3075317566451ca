-- merge_rejects: the distinct unreadable lines of the drops, so that a repeated drop does not count twice.
--
-- grain   one row per (source_table, rule, row); withheld lines all have the same text, so each of them counts
-- reads   drop_rejects (source_table, source_file, source_line, rule, row)
-- params  $withheld text, the row of a withheld line
-- ties    the file whose name sorts first, then the lowest line
with

lines as (
    select
        *,
        case when drop_rejects.row = $withheld then (source_file, source_line) end as apart
    from drop_rejects
)

select distinct on (source_table, rule, row, apart)
    source_table, source_file, source_line, rule, row
from lines
order by source_table, rule, row, apart, source_file, source_line
