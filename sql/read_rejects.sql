-- read_rejects: what is kept of the lines that are no rows: where each stood, the line as it was, and the reason.
--
-- grain   one row per line that could not be read
-- reads   readings (source_line, line, why, …)
-- params  $source_table, $source_file text
-- ties    none: order is not promised
--
-- A line may have millions of characters; ten thousand of them tell what it was.
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
