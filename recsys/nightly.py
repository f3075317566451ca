"""One night, from a source to published tables: the whole pipeline, one line per step.

A night is a plain function of its settings. `flows/nightly.py` runs the same steps as Prefect tasks.
"""

from collections.abc import Callable

from recsys import steps
from recsys.checks.check import check_moment, check_ratings
from recsys.evaluate.champion import compare_champion
from recsys.evaluate.gate import check_gate
from recsys.home import Run
from recsys.ingest.fetch.fetch import check_source_name, fetch_archive
from recsys.ingest.retention import retain_snapshots
from recsys.ingest.write import write_snapshot
from recsys.runs.night import night
from recsys.runs.retention import retain_runs
from recsys.runs.step import Executor, Step
from recsys.runs.summary import Summary, summarise_night
from recsys.settings import Settings
from recsys.split.cut import split_ratings
from recsys.train import ahead
from recsys.train.learn import Choice

FETCH_ARCHIVE = Step(fetch_archive, "fetch_archive", hours=6, retry_delays=(5, 30))
WRITE_SNAPSHOT = Step(write_snapshot, "write_snapshot", is_kept=False)  # a known snapshot is only checked
CHECK_RATINGS = Step(check_ratings, "check_ratings")
SPLIT = Step(split_ratings, "split")
FIT_VOCABULARY = Step(steps.fit_vocabulary, "fit_vocabulary", is_kept=False)
READ_RULES = Step(steps.read_rules, "read_rules", is_kept=False)
CHOOSE_NETWORK = Step(steps.choose_network, "choose_network", hours=12, restore=Choice.from_json)
WEIGH_PARTS = Step(steps.weigh_parts, "weigh_parts", hours=2)
TRAIN = Step(steps.train_for_holdout, "train", hours=12)
EVALUATE = Step(steps.evaluate, "evaluate", hours=2)
COMPARE_CHAMPION = Step(compare_champion, "compare_champion", hours=2)
CHECK_GATE = Step(check_gate, "check_gate")
TRAIN_FOR_TONIGHT = Step(steps.train_for_tonight, "train_for_tonight", hours=12)
SCORE = Step(steps.score, "score", hours=4)
PUBLISH = Step(steps.publish_lists, "publish", hours=2)
RETAIN_SNAPSHOTS = Step(retain_snapshots, "retain_snapshots")
RETAIN_RUNS = Step(retain_runs, "retain_runs")
REPORT = Step(summarise_night, "report")

STEPS = tuple(step for step in tuple(globals().values()) if isinstance(step, Step))  # in the order of a night


def run_night(
    settings: Settings,
    executor: Callable[[Run], Executor] = Executor,
    show: Callable[[Run], None] | None = None,
) -> Summary:
    """Runs one night and publishes its tables.

    `executor` decides how steps are executed. `show` is called with the run after it has ended, successfully or not.

    Raises: UsageError for a source that does not exist and for an as_of after now, before a run is opened; DataRefused,
    GateHeld, HomeBusy and the other errors of `recsys.errors`. Last night's tables are kept.
    """
    check_source_name(settings.source)
    check_moment(settings.as_of)
    with night(settings, show) as run, ahead.ended():
        do = executor(run)
        archive = do(FETCH_ARCHIVE, settings.source, run.home)
        raw = do(WRITE_SNAPSHOT, archive, run.home, settings.rating_scale, run.started_at)
        checked = do(CHECK_RATINGS, raw, run, settings.check, settings.as_of)
        parts = do(SPLIT, checked, run, settings.split, settings.seed)
        learner = do(FIT_VOCABULARY, checked, run, settings)
        rules = do(READ_RULES, checked, learner, settings)
        choice = do(CHOOSE_NETWORK, parts, learner, run, settings)
        weights = do(WEIGH_PARTS, choice, parts, learner, run, settings)
        holdout_model = do(TRAIN, choice, parts, checked, learner, run, settings.warm_start)
        metrics = do(EVALUATE, holdout_model, choice, weights, parts, learner, run, settings)
        comparison = do(COMPARE_CHAMPION, holdout_model, weights, parts, learner, run, settings)
        do(CHECK_GATE, metrics, comparison, run, settings.gate)
        tonight_model = do(TRAIN_FOR_TONIGHT, choice, checked, learner, run, settings.warm_start)
        lists = do(SCORE, tonight_model, weights, rules, checked, learner, run, settings)
        published = do(PUBLISH, lists, checked, run, settings)
        do(RETAIN_SNAPSHOTS, raw, run, settings.snapshots)
        do(RETAIN_RUNS, run, settings.history, settings.gate)
        return do(REPORT, run, published)
