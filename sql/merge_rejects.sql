-- merge_rejects: every line of the drops that could not be read, once: a drop that came twice is not twice as bad.
--
-- grain   one row per (source_table, rule, row)
-- reads   drop_rejects (source_table, source_file, source_line, rule, row)
-- params  none
-- ties    the file whose name sorts first, the lowest line
select distinct on (source_table, rule, row)
    source_table, source_file, source_line, rule, row
from drop_rejects
order by source_table, rule, row, source_file, source_line
