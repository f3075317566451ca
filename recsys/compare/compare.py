"""Runs a comparison: every network on every split with every seed, then writes one table, three files and plots."""

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
    """The results of a comparison, and the folder that they were written to."""

    folder: Path
    dataset: str
    snapshot: str
    descriptions: dict[str, str]  # by split
    rows: list[Row]


@dataclass(frozen=True)
class Job:
    """A comparison that is ready to run: the data are loaded, the splits are valid, and the folder is writable."""

    plan: Plan
    settings: Settings
    data: Data
    folder: Path


def prepare(plan: Plan, settings: Settings, out: Path | None = None) -> Job:
    """Loads the data and validates everything before the first network is trained. `out` defaults to a new folder.

    Raises: UsageError if the folder has a comparison with other conditions or cannot be written, or if a split does not
    exist; DataRefused if the data are refused or a part would be empty; the errors of fetching and reading.
    """
    folder = (out or new_folder(Home(settings.home.absolute()))).absolute()
    with writing_to(folder):
        data = load_data(settings)
        TrialStore(folder, _conditions(data, plan, settings))
    for how in plan.splits.values():
        cut(data, how, plan.seeds[0])
    logger.info("results go to %s; to resume, repeat the command with --out %s", folder, folder)
    return Job(plan, settings, data, folder)


def compare(job: Job) -> Comparison:
    """Trains and measures everything in the plan. Finished trials in the folder are not repeated.

    If a network fails, its row has the error.

    Raises: UsageError if the folder cannot be written; HomeBusy if another process uses it.
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
    """Checks that no network failed. Called last, so that all results are reported first. Raises: ModelError."""
    failed = sorted({f"{row.model} on {one.dataset}" for one in found for row in one.rows if row.failures})
    if failed:
        raise ModelError(
            f"{', '.join(failed)} failed, see the lines below the table; the other results are complete, in "
            f"{', '.join(str(one.folder) for one in found)}. "
            "Next: if the loss is not finite, find a learning rate with recsys compare --find-lr"
        )


def _run(plan: Plan, data: Data, settings: Settings, store: TrialStore) -> tuple[list[Trial], dict[str, str]]:
    trials, descriptions = [], {}
    for split, how in plan.splits.items():
        for seed in plan.seeds:
            parts = cut(data, how, seed)
            learner = make_learner(data, parts, settings, seed)
            setting = Setting(split, parts, learner, plan.epochs, settings.rank.relevant_from, settings.config)
            sizes = f"{len(parts.train):,} ratings to train on, {len(parts.holdout):,} held out"
            descriptions[split] = f"{_describe(how)}; {sizes}"
            logger.info("split %s, seed %d: %s", split, seed, sizes)
            for model in plan.models:
                trials.append(store.take_or_run(split, model, seed, partial(run_trial, model, setting)))
    return trials, descriptions


def _describe(how: SplitConfig | Provided) -> str:
    if isinstance(how, Provided):
        return f"trained on {how.train}, held out {how.holdout}" if how.train else "as GroupLens published it"
    words = {
        "random": f"{how.holdout_share:.0%} drawn at random",
        "time": f"the newest {how.holdout_share:.0%}",
        "last": f"each user's last {how.last_k}",
    }
    return words[how.kind]


def _conditions(data: Data, plan: Plan, settings: Settings) -> dict[str, Any]:
    """Returns the settings and inputs that must be equal for two trials to be comparable."""
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
            "Next: pass another folder with --out, or free some space; finished trials are kept"
        ) from None
