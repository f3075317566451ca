"""`recsys tune`: hyperparameter search on validation. All trials are stored.

The first trial is the default config of the network, so the best trial is never worse than the default.
"""

import csv
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recsys.compare.data import Data, Parts, cut, load_data, make_learner
from recsys.compare.search_space import Field, search_space, with_values
from recsys.errors import ModelError, UsageError, suggest
from recsys.files import alone, replacing, write_json
from recsys.home import Home
from recsys.models import MODELS, NetworkConfig
from recsys.settings import Settings
from recsys.train.choose import OWN_ERROR, fit_and_measure
from recsys.train.learn import Learner, configure
from recsys.train.loop import Epoch

if TYPE_CHECKING:
    from optuna import Study, Trial

logger = logging.getLogger(__name__)

STEPS_OF_A_SCHEDULE = 10  # trials are compared at tenths of their schedules, because their numbers of epochs differ
TRIALS_BEFORE_PRUNING = 5
STEPS_BEFORE_PRUNING = 3


@dataclass(frozen=True)
class Tuned:
    """The best trial so far, and the folder with all trials."""

    folder: Path
    model: str
    config: NetworkConfig
    metrics: dict[str, float]  # on validation
    default: dict[str, float]  # metrics of the default config; empty if its trial failed
    trials: dict[str, int]  # by state

    @property
    def best(self) -> Path:
        """The config file for `recsys nightly --config`."""
        return self.folder / "best.json"


def tune(model: str, settings: Settings, minutes: float, max_trials: int | None = None) -> Tuned:
    """Search for `minutes`, or for `max_trials` more trials, on a validation part of train, without the holdout.

    The search minimises the MAE of the median, or the own error of a network that predicts no ratings. Another call
    with the same data and settings resumes the search. A killed trial is run again.

    Raises: UsageError if the network does not exist or has nothing to search; ModelError if no trial succeeded;
    HomeBusy if the same search is running; the errors of reading.
    """
    if model not in MODELS:
        raise UsageError(
            f"--model {model}: there is no such network.{suggest(model, MODELS)} Next: use one of {', '.join(MODELS)}"
        )
    if not 0 < minutes < math.inf:
        raise UsageError(f"--minutes {minutes:g} is invalid. Next: pass a number above 0")
    data = load_data(settings)
    parts = cut(data, settings.split, settings.seed)
    learner = make_learner(data, parts, settings, settings.seed)
    default = configure(model, len(parts.fitted), learner)
    fields = search_space(default)
    if not fields:
        raise UsageError(f"{type(default).__name__} has no searchable field; see recsys/compare/search_space.py")
    folder = Home(settings.home.absolute()).tuning / _name(model, data, settings, default)
    search = Search(model, default, fields, parts, learner, folder)
    with alone(folder, "search"):
        return search.run(time.monotonic() + 60 * minutes, max_trials)


@dataclass(frozen=True)
class Search:
    """One search: its network, fields, data and folder."""

    model: str
    default: NetworkConfig
    fields: list[Field]
    parts: Parts
    learner: Learner
    folder: Path

    def run(self, deadline: float, max_trials: int | None) -> Tuned:
        """Runs trials until `deadline`, in time.monotonic(). The first trial of a search may run past it."""
        study = self._open()
        n_tried = 0
        while n_tried != max_trials and self._try_one(study, deadline):
            self._write(study)
            n_tried += 1
        return self._best(study)

    def _open(self) -> "Study":
        """Opens the stored study, and queues the interrupted trials of a killed search again."""
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder.mkdir(parents=True, exist_ok=True)
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(self.folder / "trials.log"))),
            study_name=self.model,
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(TRIALS_BEFORE_PRUNING, STEPS_BEFORE_PRUNING),
        )
        # with the original seed, a resumed search would draw the same points again
        study.sampler = optuna.samplers.TPESampler(seed=self.learner.seed + len(study.trials))
        for trial in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(trial.params)
            logger.info("trial %d was interrupted and will be run again", trial.number)
        if not study.trials:
            study.enqueue_trial({field.path: field.default for field in self.fields})
        return study

    def _try_one(self, study: "Study", deadline: float) -> bool:
        """Runs a trial. Returns False if there was no time left. A diverging trial ranks behind all others."""
        import optuna

        has_best = _has_best(study)
        if has_best and time.monotonic() > deadline:
            return False
        trial = study.ask()
        config = with_values(self.default, {field.path: field.suggest(trial) for field in self.fields})
        watch = _watch(trial, config.training.epochs, deadline if has_best else float("inf"))
        try:
            metrics = self._measure(config, f"trial {trial.number}", watch)
        except OutOfTimeError:
            logger.info("trial %d: out of time; the next call will run it again", trial.number)
            return False
        except (optuna.TrialPruned, ModelError) as error:
            reason = "worse than the median of the others" if isinstance(error, optuna.TrialPruned) else str(error)
            trial.set_user_attr("failure", reason)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            logger.info("trial %d: pruned: %s", trial.number, reason)
            return True
        trial.set_user_attr("metrics", metrics)
        trial.set_user_attr("config", config.model_dump(mode="json"))
        value = objective(metrics)
        study.tell(trial, value)
        logger.info("trial %d: %.4f, best %.4f; %s", trial.number, value, study.best_value, trial.params)
        return True

    def _measure(self, config: NetworkConfig, label: str, watch: Callable[[Epoch], None]) -> dict[str, float]:
        """Returns the validation metrics of the best epoch."""
        fitted, validation = self.parts.fitted, self.parts.validation
        _, best, metrics = fit_and_measure(self.model, config, fitted, validation, self.learner, label, watch)
        seconds = metrics.pop("training_seconds")
        return metrics | {"epochs": float(best.number), "training_seconds": seconds}

    def _write(self, study: "Study") -> None:
        """Writes trials.csv, and best.json if a trial has completed."""
        lines = [
            {"trial": one.number, "state": one.state.name, **one.params, **one.user_attrs.get("metrics", {})}
            for one in study.get_trials(deepcopy=False)
        ]
        names = list(dict.fromkeys(name for line in lines for name in line))
        with replacing(self.folder / "trials.csv") as aside, aside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(lines)
        if _has_best(study):
            config = study.best_trial.user_attrs["config"]
            write_json(self.folder / "best.json", {"model": self.model, "config": config})

    def _best(self, study: "Study") -> Tuned:
        if not _has_best(study):
            raise ModelError(
                f"none of {len(study.trials)} trials of {self.model} succeeded; see {self.folder / 'trials.csv'}. "
                "Next: narrow the search range of the learning rate"
            )
        states = [trial.state.name.lower() for trial in study.get_trials(deepcopy=False)]
        best = study.best_trial
        as_shipped = self.default.model_dump(mode="json")
        measured = [trial.user_attrs for trial in study.trials if trial.user_attrs.get("config") == as_shipped]
        return Tuned(
            folder=self.folder,
            model=self.model,
            config=MODELS[self.model].config_type.model_validate(best.user_attrs["config"]),
            metrics=best.user_attrs["metrics"],
            default=measured[0]["metrics"] if measured else {},
            trials={state: states.count(state) for state in sorted(set(states))},
        )


class OutOfTimeError(Exception):
    """The deadline passed during a training. The trial stays open, and the next call queues it again."""


def objective(metrics: dict[str, float]) -> float:
    """Returns the value to minimise."""
    return metrics["mae_median"] if "mae_median" in metrics else metrics[OWN_ERROR]


def _watch(trial: "Trial", n_epochs: int, deadline: float) -> Callable[[Epoch], None]:
    """Stops a trial that is out of time, or worse than the median of the others at the same part of the schedule."""
    import optuna

    def watch(epoch: Epoch) -> None:
        if time.monotonic() > deadline and epoch.number < n_epochs:
            raise OutOfTimeError
        done, before = (STEPS_OF_A_SCHEDULE * number // n_epochs for number in (epoch.number, epoch.number - 1))
        if done > before and epoch.validation_error is not None:
            trial.report(epoch.validation_error, step=done)
            if trial.should_prune():
                raise optuna.TrialPruned

    return watch


def _has_best(study: "Study") -> bool:
    import optuna

    return bool(study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE]))


def _name(model: str, data: Data, settings: Settings, default: NetworkConfig) -> str:
    """Names the folder of a search. A search is resumed only if data, split, seed and search space are equal."""
    description = {
        "split": settings.split.model_dump(mode="json"),
        "seed": settings.seed,
        "as_of": str(settings.as_of),
        "default": default.model_dump(mode="json"),
        "space": [(field.path, field.search) for field in search_space(default)],
    }
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:8]
    return f"{model}-{data.archive.dataset}-{data.snapshot}-{digest}"
