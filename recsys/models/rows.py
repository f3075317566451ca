"""Keys for the rows and names for the columns of a network's tables, by which warm starts match them.

Keys are ids instead of indices, because indices change from night to night.

Shapes: U users and I items, including index 0, the unknown; R rows of any table.
"""

from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt
from torch import nn

from recsys.models.network import Network

Keys = npt.NDArray[Any]  # (R,), unique integers or strings


@runtime_checkable
class HasRowKeys(Protocol):
    """A module with tables whose rows are neither users nor movies."""

    def row_keys(self, users: Keys, items: Keys) -> dict[str, Keys]:
        """The row keys of each such parameter, by its name in this module. users: (U,), items: (I,) ids."""


@runtime_checkable
class HasColumnNames(Protocol):
    """A module with tables whose columns may change their meaning from night to night."""

    def column_names(self) -> dict[str, tuple[str, ...]]:
        """The column names of each such parameter, by its name in this module."""


def column_names(network: Network) -> dict[str, tuple[str, ...]]:
    """The column names of all parameters that have them, by parameter name."""
    parts = ((prefix, module) for prefix, module in network.named_modules() if isinstance(module, HasColumnNames))
    return {
        f"{prefix}.{name}" if prefix else name: names
        for prefix, module in parts
        for name, names in module.column_names().items()
    }


def row_keys(network: Network, users: Keys, items: Keys) -> dict[str, Keys]:
    """The row keys of all parameters that have them, by parameter name; other parameters are shared by all ids.

    A table has a row per user (or movie) if both its length and its name match; dense layers never have row keys.
    Modules with other rows implement `HasRowKeys`.
    """
    keys: dict[str, Keys] = {}
    for prefix, module in network.named_modules():
        if isinstance(module, HasRowKeys):
            own = module.row_keys(users, items)
        elif isinstance(module, nn.Embedding) or not type(module).__module__.startswith("torch."):
            own = _keys_by_name(prefix, module, users, items)
        else:
            own = {}
        keys |= {f"{prefix}.{name}" if prefix else name: of_rows for name, of_rows in own.items()}
    return keys


def _keys_by_name(prefix: str, module: nn.Module, users: Keys, items: Keys) -> dict[str, Keys]:
    sides = {"user": users, "item": items}
    return {
        name: ids
        for name, parameter in module.named_parameters(recurse=False)
        for side, ids in sides.items()
        if len(parameter) == len(ids) and _has_part(f"{prefix}.{name}", side)
    }


def _has_part(name: str, side: str) -> bool:
    return any(part.startswith(side) for part in name.split("."))
