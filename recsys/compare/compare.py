"""The comparison itself: every network on every split with every seed, then one table, three files and pictures."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from recsys.compare.data import Data, cut, load_data, make_learner
from recsys.compare.plan import Plan
from recsys.compare.plots import draw_comparison, draw_reliability
from recsys.compare.results import Row, TrialStore, summarise, write_results
from recsys.compare.trial import Setting, Trial, run_trial
from recsys.errors import ModelError, UsageError
from recsys.files import alone
from recsys.home import RUN_ID, Home
from recsys.settings import Settings, SplitConfig
from recsys.split.provided import Provided
from recsys.version import code_hash, code_version

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparison:
    """What was found and where it is written."""

    folder: Path
    dataset: str
    snapshot: str
    descriptions: dict[str, str]  # of each split
    rows: list[Row]


@dataclass(frozen=True)
class Job:
    """A comparison that can begin: its data are read, its splits can be cut, its folder can be written."""

    plan: Plan
    settings: Settings
    data: Data
    folder: Path


def prepare(plan: Plan, settings: Settings, out: Path | None = None) -> Job:
    """Everything that can go wrong before the first network is trained; `out` is by default a new folder of the home.

    Raises: UsageError if the folder holds a comparison of other conditions or cannot be written, or there is no such
    split; DataRefused if the data are refused or a part would be empty; whatever fetching and reading raise.
    """
    folder = (out or new_folder(Home(settings.home.absolute()))).absolute()
    with writing_to(folder):
        data = load_data(settings)
        TrialStore(folder, _conditions(data, plan, settings))
    for how in plan.splits.values():
        cut(data, how, plan.seeds[0])
    logger.info("results go to %s; the same command with --out %s goes on there", folder, folder)
    return Job(plan, settings, data, folder)


def compare(job: Job) -> Comparison:
    """Trains and measures everything in the plan; goes on with the trials that are there already.

    Raises: UsageError if the folder cannot be written any more; HomeBusy if another process works there. A network that
    fails is a row of its own.
    """
    plan, settings, data, folder = job.plan, job.settings, job.data, job.folder
    with alone(folder, "comparison"), writing_to(folder):
        store = TrialStore(folder, _conditions(data, plan, settings))
        trials, descriptions = _run(plan, data, settings, store)
        rows = summarise(trials)
        found = {"id": folder.name, "dataset": data.archive.dataset, "snapshot": data.snapshot,
                 "code_version": code_version(), "splits": descriptions, "seeds": list(plan.seeds)}  # fmt: skip
        write_results(rows, trials, found, folder)
        draw_comparison(rows, folder / "results.png")
        draw_reliability(trials, folder / "reliability.png")
    return Comparison(folder, data.archive.dataset, data.snapshot, descriptions, rows)


def check_complete(found: list[Comparison]) -> None:
    """Raises: ModelError if a network failed; everything else has been reported by then."""
    failed = sorted({f"{row.model} on {one.dataset}" for one in found for row in one.rows if row.failures})
    if failed:
        raise ModelError(
            f"{', '.join(failed)} failed, see the lines below the table; the others are complete, in "
            f"{', '.join(str(one.folder) for one in found)}. "
            "If the loss is not finite, recsys compare --find-lr suggests a learning rate."
        )


def _run(plan: Plan, data: Data, settings: Settings, store: TrialStore) -> tuple[list[Trial], dict[str, str]]:
    trials, descriptions = [], {}
    for split, how in plan.splits.items():
        for seed in plan.seeds:
            parts = cut(data, how, seed)
            learner = make_learner(data, parts, settings, seed)
            setting = Setting(split, parts, learner, plan.epochs, settings.rank.relevant_from, settings.config)
            sizes = f"{len(parts.train):,} ratings to learn from, {len(parts.holdout):,} held out"
            descriptions[split] = f"{_describe(how)}; {sizes}"
            logger.info("split %s, seed %d: %s", split, seed, sizes)
            for model in plan.models:
                trials.append(store.take_or_run(split, model, seed, partial(run_trial, model, setting)))
    return trials, descriptions


def _describe(how: SplitConfig | Provided) -> str:
    if isinstance(how, Provided):
        return f"learns from {how.train}, held out {how.holdout}" if how.train else "as GroupLens published it"
    words = {
        "random": f"{how.holdout_share:.0%} drawn at random",
        "time": f"the newest {how.holdout_share:.0%}",
        "last": f"each user's last {how.last_k}",
    }
    return words[how.kind]


def _conditions(data: Data, plan: Plan, settings: Settings) -> dict[str, Any]:
    """What must be the same for two trials to stand in one table."""
    return {
        "snapshot": data.snapshot,
        "as_of": str(settings.as_of),
        "splits": settings.split.model_dump(mode="json", exclude={"kind"}),
        "files": [digest for how in plan.splits.values() if isinstance(how, Provided) for digest in how.digests()],
        "relevant_from": settings.rank.relevant_from,
        "epochs": plan.epochs,
        "config": settings.config.model_dump(mode="json") if settings.config else None,
        "device": settings.device,
        "code": code_hash(),
    }


def new_folder(home: Home) -> Path:
    name = datetime.now(UTC).strftime(RUN_ID)
    folder, taken = home.comparisons / name, 1
    while folder.exists():
        taken += 1
        folder = home.comparisons / f"{name}-{taken}"
    return folder


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written: {error.strerror} ({error.filename}). "
            "Next: give another folder with --out, or make room; finished trials are kept"
        ) from None
