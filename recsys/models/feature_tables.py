"""Vectors of whatever is known of users, movies and moments: a table for each feature, side by side.

Shapes: B batch, R rows of users or of movies, D a feature's own dim, W all of them together.
"""

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.dates import DATE_VALUES, date_features
from recsys.features import Feature
from recsys.models.network import zero_unseen
from recsys.models.rows import Keys

Dims = dict[str, int]  # length of a vector by feature; what is not named takes no part


class FeatureTable(nn.Module):
    """One feature: a row's vector is the mean of its values' vectors."""

    offsets: Tensor
    values: Tensor

    def __init__(self, feature: Feature, dim: int, std: float) -> None:
        super().__init__()
        self.names = feature.names
        self.weight = nn.Parameter(torch.randn(feature.n_values, dim) * std)
        # what is known of users and movies is saved beside the weights, not with them
        self.register_buffer("offsets", feature.offsets, persistent=False)
        self.register_buffer("values", feature.values, persistent=False)

    def forward(self) -> Tensor:
        """(R, D): of every row."""
        return F.embedding_bag(self.values, self.weight, self.offsets, mode="mean", include_last_offset=True)

    def row_keys(self, users: Keys, items: Keys) -> dict[str, Keys]:
        """A warm start finds a value by its name, wherever it stands tonight."""
        return {"weight": np.array(["not known", *(f"value {name}" for name in self.names)])}

    def zero_unseen(self, row_idx: Tensor) -> None:
        """Values that none of these rows has are never learned: they shall say nothing."""
        seen_R = torch.zeros(len(self.offsets) - 1, dtype=torch.bool, device=row_idx.device)
        seen_R[row_idx] = True
        zero_unseen(self.weight, self.values[seen_R.repeat_interleave(self.offsets.diff())])


class SideTables(nn.Module):
    """The users, or the movies: an own vector for each, and those of their features, which no row is without."""

    def __init__(self, name: str, n_rows: int, features: dict[str, Feature], dims: Dims, std: float) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.randn(n_rows, dims[name]) * std)
        self.features = nn.ModuleDict(
            {feature: FeatureTable(one, dims[feature], std) for feature, one in features.items() if feature in dims}
        )
        self.width = dims[name] + sum(dims[feature] for feature in self.features)

    def forward(self, row_idx: Tensor, hidden_share: float) -> Tensor:
        """(B,) -> (B, W). In training a share of the own vectors is zero, as that of whoever has no ratings is."""
        own_BD = F.embedding(row_idx, self.own)
        if self.training and hidden_share > 0:
            own_BD = own_BD * (torch.rand(len(row_idx), 1, device=row_idx.device) >= hidden_share)
        if not self.features:
            return own_BD
        # of all rows at once, since a batch has several ratings of most of them
        features_R = torch.cat([table() for table in self._tables()], dim=1)
        return torch.cat([own_BD, F.embedding(row_idx, features_R)], dim=1)

    def zero_unseen(self, row_idx: Tensor) -> None:
        zero_unseen(self.own, row_idx)
        for table in self._tables():
            table.zero_unseen(row_idx)

    def _tables(self) -> list[FeatureTable]:
        return cast(list[FeatureTable], list(self.features.values()))


class DateTables(nn.Module):
    """Weekday, hour, month and year of a rating, each with vectors of its own."""

    def __init__(self, dims: Dims, std: float) -> None:
        super().__init__()
        self.tables = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(n, dims[name]) * std) for name, n in DATE_VALUES.items() if name in dims}
        )
        self.width = sum(dims[name] for name in self.tables)

    def forward(self, rated_at: Tensor) -> Tensor:
        """(B,) seconds since 1970 -> (B, W), with no column where no date feature takes part."""
        index_of = date_features(rated_at)
        vectors = [F.embedding(index_of[name], table) for name, table in self.tables.items()]
        return torch.cat(vectors, 1) if vectors else rated_at.new_zeros(len(rated_at), 0, dtype=torch.float32)

    def zero_unseen(self, rated_at: Tensor) -> None:
        """A month or a year without a rating says nothing; tomorrow's may be one."""
        index_of = date_features(rated_at)
        for name, table in self.tables.items():
            zero_unseen(table, index_of[name])
