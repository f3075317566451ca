"""One night, from a source to published tables: the whole pipeline, one line per step."""

from prefect import flow
from pydantic.json_schema import SkipJsonSchema

from flows.alerting import ALERTING
from flows.endings import ending_in_words
from flows.naming import name_of_night
from flows.show import bars, show
from flows.step import is_outage, keeping_results, step
from recsys import steps
from recsys.checks import check
from recsys.evaluate import champion as versus
from recsys.evaluate import gate
from recsys.ingest import retention, write
from recsys.ingest.fetch import fetch
from recsys.runs import retention as run_retention
from recsys.runs import summary
from recsys.runs.night import night
from recsys.runs.summary import Summary
from recsys.settings import Settings
from recsys.split import cut as split

# the one step that meets the outside
fetch_archive = step(
    fetch.fetch_archive, "fetch_archive", hours=6, retries=2, retry_delay_seconds=[5, 30], retry_condition_fn=is_outage
)
write_snapshot = step(write.write_snapshot, "write_snapshot")
check_ratings = step(check.check_ratings, "check_ratings")
split_ratings = step(split.split_ratings, "split")
fit_vocabulary = step(steps.fit_vocabulary, "fit_vocabulary")
read_rules = step(steps.read_rules, "read_rules")
choose_network = step(steps.choose_network, "choose_network", hours=12)
weigh_parts = step(steps.weigh_parts, "weigh_parts", hours=2)
train_for_holdout = step(steps.train_for_holdout, "train", hours=12)
evaluate = step(steps.evaluate, "evaluate", hours=2)
compare_champion = step(versus.compare_champion, "compare_champion", hours=2)
check_gate = step(gate.check_gate, "check_gate")
train_for_tonight = step(steps.train_for_tonight, "train_for_tonight", hours=12)
score = step(steps.score, "score", hours=4)
publish = step(steps.publish_lists, "publish", hours=2)
retain_snapshots = step(retention.retain_snapshots, "retain_snapshots")
retain_runs = step(run_retention.retain_runs, "retain_runs")
summarise = step(summary.summarise_night, "report")


@flow(name="nightly", description=__doc__, flow_run_name=name_of_night, **ALERTING)
@ending_in_words
def nightly(settings: Settings | SkipJsonSchema[None] = None) -> Summary:
    """Runs a night; `settings` left out are those of the environment, then the defaults."""
    settings = settings or Settings()
    with bars(), night(settings, show) as run, keeping_results(run):
        archive = fetch_archive(settings.source, run.home)
        raw = write_snapshot(archive, run.home)
        checked = check_ratings(raw, run, settings.check, settings.as_of)
        parts = split_ratings(checked, run, settings.split, settings.seed)
        learner = fit_vocabulary(checked, run, settings)
        rules = read_rules(checked, learner, settings)
        choice = choose_network(parts, learner, run, settings)
        weights = weigh_parts(choice, parts, learner, run, settings)
        judged = train_for_holdout(choice, parts, learner, run)
        metrics = evaluate(judged, choice, weights, parts, learner, run, settings)
        compared = compare_champion(judged, weights, parts, learner, run, settings)
        check_gate(metrics, compared, run, settings.gate)
        served = train_for_tonight(choice, checked, learner, run, settings.warm_start)
        lists = score(served, weights, rules, checked, learner, run, settings)
        published = publish(lists, checked, run, settings)
        retain_snapshots(raw, run, settings.snapshots)
        retain_runs(run, settings.history)
        return summarise(run, published)
