"""The trainings of a night that run ahead in another process; see `recsys.train.ahead`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from recsys.files import read_table
from recsys.models import NetworkConfig
from recsys.settings import Settings
from recsys.train import ahead
from recsys.train.choose import label_on_validation
from recsys.train.device import pick_device
from recsys.train.learn import Choice, Learner, configure, fit_seeded
from recsys.train.loop import Epoch
from recsys.train.tuned import list_names


def try_ahead(train: Path, validation: Path, learner: Learner, settings: Settings) -> None:
    """Starts to train the second candidate of `choose_trained`, while this process trains the first.

    train, validation: Parquet files.
    """
    names = list_names(settings.model, settings.candidates, settings.config)
    n_ratings = pq.read_metadata(train).num_rows
    if len(names) > 1 and _may_run_ahead(n_ratings, learner):
        label, config = label_on_validation(names[1]), configure(names[1], n_ratings, learner)
        ahead.start(label, partial(_fit, names[1], config, learner, label, train, validation))


def learn_ahead(choice: Choice, ratings: Path, learner: Learner, label: str) -> None:
    """Starts `learn` for a later call with the same label. ratings: Parquet file."""
    if _may_run_ahead(pq.read_metadata(ratings).num_rows, learner):
        ahead.start(
            label, partial(_fit, choice.model, choice.config, learner, label, ratings, stop_after=choice.epochs)
        )


def _may_run_ahead(n_ratings: int, learner: Learner) -> bool:
    on_cpu = pick_device(learner.device).type == "cpu"
    return on_cpu and learner.processes > 1 and learner.checkpoints is not None and n_ratings >= ahead.MIN_RATINGS


def _fit(
    name: str,
    config: NetworkConfig,
    learner: Learner,
    label: str,
    train: Path,
    validation: Path | None = None,
    *,
    stop_after: int | None = None,
    watch: Callable[[Epoch], None],
) -> None:
    """Runs in the other process."""
    fit_seeded(
        name,
        config,
        learner.encode(read_table(train)),
        learner,
        validation=learner.encode(read_table(validation)) if validation else None,
        stop_after=stop_after,
        label=label,
        watch=watch,
        keep_checkpoint=True,
    )
