"""Parses the options of `recsys compare`: networks, splits and seeds."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pydantic import ValidationError

from recsys.errors import UsageError, suggest
from recsys.models import MODELS
from recsys.models.baselines import BASELINES
from recsys.settings import Settings, SplitConfig, SplitKind
from recsys.split.provided import PUBLISHED, Provided
from recsys.train.tuned import check_config

Epochs = Literal["chosen", "stated"]

MAX_SEEDS = 100
EVERYTHING = (*MODELS, *BASELINES)


@dataclass(frozen=True)
class Plan:
    """Every network is trained on every split, once per seed. The seed draws the split and the network's weights."""

    models: tuple[str, ...]
    splits: dict[str, SplitConfig | Provided]  # by name in the results
    seeds: tuple[int, ...]
    epochs: Epochs  # chosen on validation, or as stated in the network's config


def plan_comparison(
    models: str | None,
    splits: str | None,
    n_seeds: int,
    epochs: Epochs,
    settings: Settings,
    files: tuple[Path | None, Path | None] = (None, None),
) -> Plan:
    """Parses the options of the command. `files` are a train and a holdout file, which replace `splits`.

    Raises: UsageError for invalid options.
    """
    if not 1 <= n_seeds <= MAX_SEEDS:
        raise UsageError(f"--seeds {n_seeds} is invalid. Next: pass a number from 1 to {MAX_SEEDS}")
    named = _parse_models(models, settings)
    seeds = tuple(range(settings.seed, settings.seed + n_seeds))
    share = settings.split.validation_share
    _check_config(settings, named)
    if any(files):
        if splits:
            raise UsageError(f"--split {splits} cannot be combined with --train and --holdout. Next: omit one of them")
        if not all(files):
            raise UsageError("--train and --holdout must be given together. Next: pass both files, or --split instead")
        return Plan(named, {"files": Provided("files", share, *files)}, seeds, epochs)
    parsed = {word.strip(): _parse_split(word.strip(), settings.split) for word in (splits or "random").split(",")}
    return Plan(named, parsed, seeds, epochs)


def _check_config(settings: Settings, named: tuple[str, ...]) -> None:
    """Raises: UsageError if the config is invalid, or if its network is not compared."""
    if settings.config is None:
        return
    if settings.config.model not in named:
        raise UsageError(f"--config is for {settings.config.model}, which is not among --models {','.join(named)}")
    check_config(settings.config)


def folders_of(sources: Sequence[str], out: Path | None) -> dict[str | None, Path | None]:
    """Returns the folder for the results of each source: `out`, or a subfolder of it per source if there are several.

    Without sources, the source of the settings is used. Without `out`, each source gets a new folder in the home.

    Raises: UsageError if two sources would share a folder.
    """
    if len(sources) < 2 or out is None:
        return dict.fromkeys(sources or (None,), out)
    names = [re.sub(r"[^\w.-]+", "-", Path(source).absolute().name.removesuffix(".zip")) for source in sources]
    if len(set(names)) < len(names) or {"", ".", ".."} & set(names):
        raise UsageError(
            f"--source {', '.join(sources)}: two of them would write to the same folder in {out}. "
            "Next: give them different names, or run the command once per source with different --out"
        )
    return {source: out / name for source, name in zip(sources, names, strict=True)}


def _parse_models(models: str | None, settings: Settings) -> tuple[str, ...]:
    if models is None:
        return (*settings.candidates, "bias")
    words = [word.strip() for word in models.split(",")]
    if "all" in words:
        return EVERYTHING
    named = tuple(dict.fromkeys(words))
    for name in named:
        if name not in EVERYTHING:
            hint = suggest(name, EVERYTHING)
            raise UsageError(f"--models {name}: there is no such network.{hint} Next: use all, or some of "
                             f"{', '.join(EVERYTHING)}")  # fmt: skip
    return named


def _parse_split(word: str, base: SplitConfig) -> SplitConfig | Provided:
    """Parses `random`, `time` or `last`, each with an optional share or number (time:0.1, last:3), or u1 to ub."""
    if word in PUBLISHED:
        return Provided(word, base.validation_share)
    kind, _, amount = word.partition(":")
    field = "last_k" if kind == "last" else "holdout_share"
    kinds: Sequence[str] = get_args(SplitKind)
    try:
        if kind not in kinds:
            known = (*kinds, *PUBLISHED)
            raise ValueError(f"there is no such split.{suggest(kind, known)} Next: use some of {', '.join(known)}")
        return SplitConfig.model_validate(base.model_dump() | {"kind": kind} | ({field: amount} if amount else {}))
    except ValidationError as error:
        raise UsageError(f"--split {word}: {error.errors()[0]['msg']}. Next: use e.g. time:0.1 or last:5") from None
    except ValueError as error:
        raise UsageError(f"--split {word}: {error}") from None
