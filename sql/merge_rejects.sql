-- merge_rejects: every line of the drops that could not be read, once: a drop that came twice is not twice as bad.
--
-- grain   one row per (source_table, rule, row); of lines whose text is withheld, which all look alike, every one
-- reads   drop_rejects (source_table, source_file, source_line, rule, row)
-- params  $withheld text, the row of such a line
-- ties    the file whose name sorts first, the lowest line
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
