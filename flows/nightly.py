"""One night, from a source to published tables: the whole pipeline, one line per step."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Task, flow
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from recsys import gate, run_retention, split, steps, summary, versus
from recsys.checks import check
from recsys.errors import SourceOutage
from recsys.ingest import fetch, retention, write
from recsys.night import night, timed
from recsys.settings import Settings
from recsys.summary import Summary

P = ParamSpec("P")
R = TypeVar("R")


def step(function: Callable[P, R], **options: Any) -> Task[P, R]:
    """A plain function of `recsys` as a task. Nothing is cached: each night does its own work."""
    return Task(timed(function), name=function.__name__, cache_policy=NO_CACHE, **options)


def is_outage(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Only what may be gone in a moment is worth another try: a misspelt name is not."""
    return isinstance(state.result(raise_on_failure=False), SourceOutage)


# the one step that meets the outside
fetch_archive = step(fetch.fetch_archive, retries=2, retry_delay_seconds=5, retry_condition_fn=is_outage)
write_snapshot = step(write.write_snapshot)
check_ratings = step(check.check_ratings)
split_ratings = step(split.split_ratings)
fit_vocabulary = step(steps.fit_vocabulary)
read_rules = step(steps.read_rules)
choose_network = step(steps.choose_network)
weigh_parts = step(steps.weigh_parts)
train_for_holdout = step(steps.train_for_holdout)
evaluate = step(steps.evaluate)
compare_champion = step(versus.compare_champion)
check_gate = step(gate.check_gate)
train_for_tonight = step(steps.train_for_tonight)
score = step(steps.score)
publish = step(steps.publish_lists)
retain_snapshots = step(retention.retain_snapshots)
retain_runs = step(run_retention.retain_runs)
summarise = step(summary.summarise_night)


@flow(name="nightly", description=__doc__)
def nightly(settings: Settings | None = None) -> Summary:
    """Runs a night; `settings` left out are those of the environment, then the defaults."""
    settings = settings or Settings()
    with night(settings) as run:
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
