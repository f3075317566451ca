-- read_rejects: the lines that could not be read, with file, line number, text and reason.
--
-- grain   one row per line that could not be read
-- reads   readings (source_line, line, why, …)
-- params  $source_table, $source_file text
-- ties    none; the rows are in no particular order
--
-- A line may have millions of characters; the first ten thousand are kept.
select
    $source_table as source_table,
    $source_file as source_file,
    readings.source_line,
    'unreadable' as rule,
    json_object(
        'line', case
            when length(readings.line) <= 10000 then readings.line
            else format('{}… ({:,} characters)', left(readings.line, 10000), length(readings.line))
        end,
        'why', readings.why
    )::varchar as row
from readings
where readings.why is not null
