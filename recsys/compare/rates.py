"""`recsys compare --find-lr`: suggests a learning rate for each network, and draws its loss by rate."""

import logging
from dataclasses import dataclass
from pathlib import Path

from recsys.compare.compare import new_folder, writing_to
from recsys.compare.data import cut, load_data, make_learner
from recsys.compare.plan import Plan
from recsys.compare.plots import draw_learning_rates
from recsys.errors import ModelError, UsageError
from recsys.files import write_json
from recsys.home import Home
from recsys.models import MODELS, Network, NetworkConfig
from recsys.settings import Settings
from recsys.train.device import pick_device, seeded
from recsys.train.learn import Learner, configure
from recsys.train.learning_rate import LearningRateCurve, find_learning_rate

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rates:
    """Suggested rates. `failures` are the errors of networks whose loss is not finite at any rate."""

    folder: Path
    suggested: dict[str, float]  # by network
    stated: dict[str, float]  # in the network's own config
    failures: dict[str, str]


def find_rates(plan: Plan, settings: Settings, out: Path | None = None) -> Rates:
    """Tests every network of `plan` on the fitted part of its first split and seed.

    Writes learning_rates.json with the curves, and learning_rates.png.

    Raises: UsageError if the plan has no network; ModelError if no network has a finite loss; the errors of reading.
    """
    names = [name for name in plan.models if name in MODELS]
    if not names:
        raise UsageError(
            f"--find-lr: {', '.join(plan.models)} have no learning rate. Next: pass networks with --models"
        )
    data = load_data(settings)
    parts = cut(data, next(iter(plan.splits.values())), plan.seeds[0])
    learner = make_learner(data, parts, settings, plan.seeds[0])
    rows = learner.encode(parts.fitted).to(pick_device(settings.device))
    curves: dict[str, LearningRateCurve] = {}
    stated: dict[str, float] = {}
    failures: dict[str, str] = {}
    for name in names:
        tuned = settings.config if settings.config and settings.config.model == name else None
        config = configure(name, len(rows), learner, tuned)
        stated[name] = config.training.learning_rate
        try:
            network = _build(name, config, learner)
            curves[name] = find_learning_rate(network, rows, config.training, seed=learner.seed)
            logger.info("%s: suggested %.2g, config %.2g", name, curves[name].suggestion, stated[name])
        except ModelError as error:
            failures[name] = str(error)
    found = _write(out, settings, curves, stated, failures)
    if not curves:
        raise ModelError(f"no network has a finite loss at any rate: {'; '.join(failures.values())}")
    return found


def _build(name: str, config: NetworkConfig, learner: Learner) -> Network:
    with seeded(learner.seed):
        return MODELS[name].build(config, learner.sizes(), learner.features).to(pick_device(learner.device))


def _write(
    out: Path | None,
    settings: Settings,
    curves: dict[str, LearningRateCurve],
    stated: dict[str, float],
    failures: dict[str, str],
) -> Rates:
    folder = (out or new_folder(Home(settings.home.absolute()))).absolute()
    suggested = {name: curve.suggestion for name, curve in curves.items()}
    with writing_to(folder):
        found = {"suggested": suggested, "stated": stated, "failures": failures}
        shown = {name: {"rates": curve.rates, "losses": curve.losses} for name, curve in curves.items()}
        write_json(folder / "learning_rates.json", found | {"curves": shown})
        draw_learning_rates(curves, folder / "learning_rates.png")
    return Rates(folder, suggested, stated, failures)
