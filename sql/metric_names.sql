-- metric_names: the metrics that occur in `metrics`, with what they measure, their unit, and which values are better.
--
-- grain   one row per metric
-- reads   metrics (metric), described_metrics (metric, unit, better, measures)
-- params  none
-- ties    a metric that several patterns match: the longest pattern
with

parts as (
    select
        metric,
        regexp_extract(
            metric, '^(.+?)(_difference|_ratio)?(_low|_high)?$', ['base', 'compared', 'bound']
        ) as part,
    from (select distinct metric from metrics)
),

matched as (
    select parts.metric, parts.part, arg_max(described_metrics, length(described_metrics.metric)) as described
    from parts
    inner join described_metrics on parts.part.base glob described_metrics.metric
    group by parts.metric, parts.part
)

select
    metric,
    case part.bound when '_low' then 'lower end of the interval of: ' when '_high' then 'upper end of the interval of: '
        else ''
    end
    || case part.compared when '_difference' then 'value of the model minus that of the champion: '
        when '_ratio' then 'value of the model divided by that of the champion: '
        else ''
    end
    || described.measures as measures,
    if(part.compared = '_ratio', 'ratio', described.unit) as unit,
    described.better as better,
from matched
order by metric
