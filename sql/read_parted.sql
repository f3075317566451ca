-- read_parted: lines as lists of fields, and what is wrong with a line that has not as many as it needs.
--
-- grain   one row per line
-- reads   lines (source_line, line, fields, problem); fields only where splitting would be wrong, problem where nothing
--         can part the line
-- params  separator text, n_fields integer: this is a macro, parted_lines(separator, n_fields), so they bear no $
-- ties    none: order is not promised
with

trimmed as (
    select
        lines.source_line,
        rtrim(lines.line, e'\r\n') as line,
        lines.fields,
        lines.problem
    from lines
),

parted as (
    select
        trimmed.source_line,
        trimmed.line,
        coalesce(trimmed.fields, string_split(trimmed.line, separator)) as fields,
        trimmed.problem
    from trimmed
)

select
    parted.source_line,
    parted.line,
    parted.fields,
    case
        when parted.problem is not null then parted.problem
        when trim(parted.line) = '' then 'the line is empty'
        when len(parted.fields) = 1 and n_fields <> 1 then format('1 field where {} are needed', n_fields)
        when len(parted.fields) <> n_fields then format('{} fields where {} are needed', len(parted.fields), n_fields)
    end as problem
from parted
