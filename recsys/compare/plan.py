"""What a comparison is asked: which networks, on which splits, with which seeds."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pydantic import ValidationError

from recsys.errors import UsageError
from recsys.models import MODELS
from recsys.models.baselines import BASELINES
from recsys.settings import Settings, SplitConfig, SplitKind
from recsys.split.provided import PUBLISHED, Provided
from recsys.train.choose import check_config

Epochs = Literal["chosen", "stated"]

MAX_SEEDS = 100
EVERYTHING = (*MODELS, *BASELINES)


@dataclass(frozen=True)
class Plan:
    """Every network on every split, once for each seed, which draws both the split and the network."""

    models: tuple[str, ...]
    splits: dict[str, SplitConfig | Provided]  # by the name in the table
    seeds: tuple[int, ...]
    epochs: Epochs  # chosen on validation, or as the network's config states


def plan_comparison(
    models: str | None,
    splits: str | None,
    n_seeds: int,
    epochs: Epochs,
    settings: Settings,
    files: tuple[Path | None, Path | None] = (None, None),
) -> Plan:
    """The plan that the words of a command mean; `files` are a train and a holdout file, in place of `splits`.

    Raises: UsageError for what cannot be meant.
    """
    if not 1 <= n_seeds <= MAX_SEEDS:
        raise UsageError(f"--seeds {n_seeds}: give a number from 1 to {MAX_SEEDS}")
    named = _parse_models(models, settings)
    seeds = tuple(range(settings.seed, settings.seed + n_seeds))
    share = settings.split.validation_share
    _check_config(settings, named)
    if any(files):
        if splits:
            raise UsageError(f"--split {splits} and --train, --holdout are two ways to part ratings: leave one out")
        if not all(files):
            raise UsageError("--train and --holdout belong together: give both files, or neither and a --split")
        return Plan(named, {"files": Provided("files", share, *files)}, seeds, epochs)
    parsed = {word.strip(): _parse_split(word.strip(), settings.split) for word in (splits or "random").split(",")}
    return Plan(named, parsed, seeds, epochs)


def _check_config(settings: Settings, named: tuple[str, ...]) -> None:
    """Raises: UsageError if a config is given that is of no network that is compared, or not what that one takes."""
    if settings.config is None:
        return
    if settings.config.model not in named:
        raise UsageError(f"--config is of {settings.config.model}, which is not among --models {','.join(named)}")
    check_config(settings.config)


def folders_of(sources: Sequence[str], out: Path | None) -> dict[str | None, Path | None]:
    """Where the results of each source go: into `out`, or, of several sources, into a folder there for each.

    Without a source there is the one of the settings; without `out`, each has a new folder of the home.

    Raises: UsageError if two sources would share a folder.
    """
    if len(sources) < 2 or out is None:
        return dict.fromkeys(sources or (None,), out)
    names = [re.sub(r"[^\w.-]+", "-", Path(source).absolute().name.removesuffix(".zip")) for source in sources]
    if len(set(names)) < len(names) or {"", ".", ".."} & set(names):
        raise UsageError(
            f"--source {', '.join(sources)}: two of them would write to the same folder of {out}. "
            "Next: give each a name of its own, or call once for each, with an --out of its own"
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
            raise UsageError(f"--models {name}: there is no such network.{_suggest(name)} Next: all, or some of "
                             f"{', '.join(EVERYTHING)}")  # fmt: skip
    return named


def _suggest(name: str) -> str:
    close = difflib.get_close_matches(name, EVERYTHING, n=1)
    return f" Did you mean {close[0]}?" if close else ""


def _parse_split(word: str, base: SplitConfig) -> SplitConfig | Provided:
    """`random`, `time`, `last`, each with its own share or number behind a colon (time:0.1, last:3), or u1 to ub."""
    if word in PUBLISHED:
        return Provided(word, base.validation_share)
    kind, _, amount = word.partition(":")
    field = "last_k" if kind == "last" else "holdout_share"
    kinds: Sequence[str] = get_args(SplitKind)
    try:
        if kind not in kinds:
            raise ValueError(f"there is no such split; next: some of {', '.join((*kinds, *PUBLISHED))}")
        return SplitConfig.model_validate(base.model_dump() | {"kind": kind} | ({field: amount} if amount else {}))
    except ValidationError as error:
        raise UsageError(f"--split {word}: {error.errors()[0]['msg']}. Next: e.g. time:0.1 or last:5") from None
    except ValueError as error:
        raise UsageError(f"--split {word}: {error}") from None
