"""What the rows and columns of a network's tables stand for, by id rather than by index: what warm starts go by.

Shapes: U users and I items, with index 0, the unknown, first; R rows of any table.
"""

from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt
from torch import nn

from recsys.models.network import Network

Keys = npt.NDArray[Any]  # (R,), none twice: integers or strings


@runtime_checkable
class HasRowKeys(Protocol):
    """A part of a network with tables whose rows are neither one per user nor one per movie."""

    def row_keys(self, users: Keys, items: Keys) -> dict[str, Keys]:
        """Of each such parameter, by its name in this part: what its rows stand for. users: (U,), items: (I,) ids."""


@runtime_checkable
class HasColumnNames(Protocol):
    """A part of a network with tables whose columns stand for something that may be another one tomorrow."""

    def column_names(self) -> dict[str, tuple[str, ...]]:
        """Of each such parameter, by its name in this part: what its columns stand for."""


def column_names(network: Network) -> dict[str, tuple[str, ...]]:
    """Of each parameter whose columns stand for something, by its name."""
    parts = ((prefix, module) for prefix, module in network.named_modules() if isinstance(module, HasColumnNames))
    return {
        f"{prefix}.{name}" if prefix else name: names
        for prefix, module in parts
        for name, names in module.column_names().items()
    }


def row_keys(network: Network, users: Keys, items: Keys) -> dict[str, Keys]:
    """Of each parameter whose rows stand for something, by its name; all others are shared by all users and movies.

    A table has a row per user, or per movie, if its length says so and its name does; the outputs of a dense layer
    never are. Parts of a network that know better say so.
    """
    keys: dict[str, Keys] = {}
    for prefix, module in network.named_modules():
        if isinstance(module, HasRowKeys):
            told = module.row_keys(users, items)
        elif isinstance(module, nn.Embedding) or not type(module).__module__.startswith("torch."):
            told = _keys_by_name(prefix, module, users, items)
        else:
            told = {}
        keys |= {f"{prefix}.{name}" if prefix else name: of_rows for name, of_rows in told.items()}
    return keys


def _keys_by_name(prefix: str, module: nn.Module, users: Keys, items: Keys) -> dict[str, Keys]:
    sides = {"user": users, "item": items}
    return {
        name: ids
        for name, parameter in module.named_parameters(recurse=False)
        for side, ids in sides.items()
        if len(parameter) == len(ids) and _says(f"{prefix}.{name}", side)
    }


def _says(name: str, side: str) -> bool:
    return any(part.startswith(side) for part in name.split("."))
