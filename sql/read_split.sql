-- read_split: lines split into fields, and the problem of a line with another number of fields.
--
-- grain   one row per line
-- reads   lines (source_line, line, fields, problem): fields only if splitting at the separator would be wrong, problem
--         only if the line cannot be split
-- params  separator text, n_fields integer: the file is the macro split_lines(separator, n_fields), so they have no $
-- ties    none; the rows are in no particular order
with

trimmed as (
    select
        lines.source_line,
        rtrim(lines.line, e'\r\n') as line,
        lines.fields,
        lines.problem
    from lines
),

split_up as (
    select
        trimmed.source_line,
        trimmed.line,
        coalesce(trimmed.fields, string_split(trimmed.line, separator)) as fields,
        trimmed.problem
    from trimmed
)

select
    split_up.source_line,
    split_up.line,
    split_up.fields,
    case
        when split_up.problem is not null then split_up.problem
        when trim(split_up.line) = '' then 'the line is empty'
        when len(split_up.fields) = 1 and n_fields <> 1 then format('1 field instead of {}', n_fields)
        when len(split_up.fields) <> n_fields then format('{} fields instead of {}', len(split_up.fields), n_fields)
    end as problem
from split_up
