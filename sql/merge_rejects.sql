-- merge_rejects: the distinct lines of the drops that could not be read, so that a repeated drop does not count twice.
--
-- grain   one row per (source_table, rule, row); lines whose text is withheld all look alike, so each of them counts
-- reads   drop_rejects (source_table, source_file, source_line, rule, row)
-- params  $withheld text, the row of a line whose text is withheld
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
