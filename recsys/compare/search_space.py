"""The search space of `recsys tune`, which the fields of a network's config declare.

A field declares `json_schema_extra={"search": [low, high, kind]}`, where kind is "linear", "log", "int" or "int_log",
or `{"search": [choice, choice, ...]}`. Other fields are not searched. Neither is a field whose value disables a part of
the network: None, or 0 in a logarithmic range.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from recsys.models import NetworkConfig

if TYPE_CHECKING:
    from optuna import Trial

RANGES = ("linear", "log", "int", "int_log")


@dataclass(frozen=True)
class Field:
    """A searchable field, by its path in the config, e.g. training.learning_rate."""

    path: str
    default: Any
    search: list[Any]

    @property
    def is_range(self) -> bool:
        return len(self.search) == 3 and self.search[-1] in RANGES

    @property
    def is_off(self) -> bool:
        return self.is_range and (self.default is None or (self.default == 0 and self.search[-1].endswith("log")))

    def suggest(self, trial: "Trial") -> Any:
        """Suggests a value. The range is extended to include the default, which the first trial uses."""
        if not self.is_range:
            return trial.suggest_categorical(self.path, list(dict.fromkeys([*self.search, self.default])))
        low, high, kind = self.search
        low, high = min(low, self.default), max(high, self.default)
        if kind.startswith("int"):
            return trial.suggest_int(self.path, low, high, log=kind == "int_log")
        return trial.suggest_float(self.path, low, high, log=kind == "log")


def search_space(config: NetworkConfig) -> list[Field]:
    """Returns the searchable fields of `config`, including those of its training."""
    return [field for field in _fields(config, "") if not field.is_off]


def with_values(config: NetworkConfig, values: dict[str, Any]) -> NetworkConfig:
    """Returns a validated copy of `config` with other values at these paths."""
    changed = config.model_dump()
    for path, value in values.items():
        *outer, name = path.split(".")
        place = changed
        for part in outer:
            place = place[part]
        place[name] = value
    return type(config).model_validate(changed)


def _fields(config: BaseModel, prefix: str) -> Iterator[Field]:
    for name, info in type(config).model_fields.items():
        value, extra = getattr(config, name), info.json_schema_extra
        if isinstance(value, BaseModel):
            yield from _fields(value, f"{prefix}{name}.")
        elif isinstance(extra, dict) and isinstance(extra.get("search"), list):
            yield Field(f"{prefix}{name}", value, list(extra["search"]))  # type: ignore[arg-type]
