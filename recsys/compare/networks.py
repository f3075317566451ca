"""The tables of `recsys networks`: all networks, and the config of one."""

from collections.abc import Iterator
from typing import Any

import polars as pl
from pydantic import BaseModel

from recsys.errors import UsageError, suggest
from recsys.models import MODELS, NetworkConfig


def list_networks() -> pl.DataFrame:
    """Returns a row per network: its name, whether it predicts stars, its description, its write-up's figure."""
    return pl.DataFrame(
        {
            "network": name,
            "stars": variant.rates,
            "what": variant.what,
            "reported": f"{variant.reported.figure}: {variant.reported.conditions}" if variant.reported else "",
        }
        for name, variant in MODELS.items()
    )


def config_of(name: str, n_ratings: int, n_levels: int) -> NetworkConfig:
    """Returns the default config of a network for this number of ratings and levels.

    Raises: UsageError if the network does not exist.
    """
    if name not in MODELS:
        raise UsageError(f"there is no network {name}.{suggest(name, MODELS)} Next: use one of {', '.join(MODELS)}")
    return MODELS[name].configure(n_ratings, n_levels)


def list_knobs(config: NetworkConfig) -> pl.DataFrame:
    """Returns a row per field of the config: its value, the range that `recsys tune` searches, its description."""
    rows = list(_knobs(config, ""))
    return pl.DataFrame(rows, schema=dict.fromkeys(("knob", "value", "searched", "what"), pl.String))


def _knobs(config: BaseModel, prefix: str) -> Iterator[dict[str, str]]:
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            yield from _knobs(value, f"{name}.")
            continue
        extra: Any = field.json_schema_extra or {}
        searched = " ".join(map(str, extra.get("search", ())))
        yield {"knob": prefix + name, "value": _show(value), "searched": searched, "what": field.description or ""}


def _show(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
