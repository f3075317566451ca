"""Embedding tables for the features of users, movies and rating times.

Shapes: B batch, R rows (users or movies), V values of a feature, D length of one feature's vectors, W sum of these
lengths, E length of a vector with its bias.
"""

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.encode.dates import DATE_VALUES, date_features
from recsys.encode.features import Feature
from recsys.models.groups import Groups, Sorted
from recsys.models.network import zero_unseen
from recsys.models.rows import Keys

Dims = dict[str, int]  # vector length by feature; features that are not named are ignored


class FeatureTable(nn.Module):
    """The table of one feature. The vector of a row is the mean of the vectors of its values."""

    offsets: Tensor
    values: Tensor

    def __init__(self, feature: Feature, dim: int, std: float) -> None:
        super().__init__()
        self.names = feature.names
        self.weight = nn.Parameter(torch.randn(feature.n_values, dim) * std)
        # features are saved in a file of their own, not with the weights
        self.register_buffer("offsets", feature.offsets, persistent=False)
        self.register_buffer("values", feature.values, persistent=False)

    def forward(self) -> Tensor:
        """(R, D): the vectors of all rows."""
        return F.embedding_bag(self.values, self.weight, self.offsets, mode="mean", include_last_offset=True)

    def row_keys(self, users: Keys, items: Keys) -> dict[str, Keys]:
        """Identifies values by name, because their indices may change from night to night."""
        return {"weight": np.array(["not known", *(f"value {name}" for name in self.names)])}

    def members(self, row_idx: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The values of these rows, one after the other: the position of the row, the value, its weight in the mean."""
        counts_B = self.offsets.diff()[row_idx]
        position = torch.arange(len(row_idx), device=row_idx.device).repeat_interleave(counts_B)
        first_B = self.offsets[row_idx] - (counts_B.cumsum(0) - counts_B)
        value = self.values[first_B[position] + torch.arange(len(position), device=row_idx.device)]
        return position, value, 1 / counts_B[position]

    def shares(self, row_idx: Tensor) -> Tensor:
        """(V,): the share of each value among these rows. A row with three values adds a third to each. Sums to 1."""
        n_R = torch.bincount(row_idx, minlength=len(self.offsets) - 1)
        counts_R = self.offsets.diff()
        weights = (n_R / counts_R).repeat_interleave(counts_R)
        return torch.bincount(self.values, weights, minlength=len(self.weight)) / len(row_idx)

    def zero_unseen(self, row_idx: Tensor) -> None:
        """Zeroes the vectors of values that do not occur in these rows, because they are never trained."""
        seen_R = torch.zeros(len(self.offsets) - 1, dtype=torch.bool, device=row_idx.device)
        seen_R[row_idx] = True
        zero_unseen(self.weight, self.values[seen_R.repeat_interleave(self.offsets.diff())])


class SideTables(nn.Module):
    """The tables of one side, users or movies: a vector per id, and the vectors of its features."""

    def __init__(self, name: str, n_rows: int, features: dict[str, Feature], dims: Dims, std: float) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.randn(n_rows, dims[name]) * std)
        self.features = nn.ModuleDict(
            {feature: FeatureTable(one, dims[feature], std) for feature, one in features.items() if feature in dims}
        )
        self.width = dims[name] + sum(dims[feature] for feature in self.features)

    def forward(self, row_idx: Tensor, hidden_share: float) -> Tensor:
        """(B,) -> (B, W). In training, a random share of the id vectors is zeroed, as for ids without ratings."""
        own_BD = F.embedding(row_idx, self.own)
        if self.training and hidden_share > 0:
            own_BD = own_BD * (torch.rand(len(row_idx), 1, device=row_idx.device) >= hidden_share)
        if not self.features:
            return own_BD
        # computed for all rows at once, since a batch contains most of them several times
        features_R = torch.cat([table() for table in self._tables()], dim=1)
        return torch.cat([own_BD, F.embedding(row_idx, features_R)], dim=1)

    def zero_unseen(self, row_idx: Tensor) -> None:
        zero_unseen(self.own, row_idx)
        for table in self._tables():
            table.zero_unseen(row_idx)

    def _tables(self) -> list[FeatureTable]:
        return cast(list[FeatureTable], list(self.features.values()))


class FeatureSum(nn.Module):
    """For each row, the sum of the vectors and biases of its features; zeros if the dataset has none of them."""

    zero_R1: Tensor

    def __init__(
        self, n_rows: int, features: dict[str, Feature], names: tuple[str, ...], embedding_dim: int, std: float
    ) -> None:
        super().__init__()
        self.tables = nn.ModuleDict(
            {name: FeatureTable(one, embedding_dim + 1, std) for name, one in features.items() if name in names}
        )
        self.width = embedding_dim + 1
        self.register_buffer("zero_R1", torch.zeros(n_rows, 1), persistent=False)
        with torch.no_grad():
            for table in self._tables():
                table.weight[:, -1] = 0.0
                table.weight[0] = 0.0  # "not known"

    def prepare(self, row_idx: Tensor) -> None:
        """Records the share of each value in training, and zeroes other values. row_idx: (N,), of training ratings."""
        for table in self._tables():
            table.zero_unseen(row_idx)
        self._shares = [table.shares(row_idx) for table in self._tables()]

    def forward(self) -> Tensor:
        """(R, E): the sums of all rows."""
        total: Tensor = sum((table() for table in self._tables()), self.zero_R1.expand(-1, self.width))
        return total

    def shares(self) -> Tensor:
        """(V,): the share of each value among the training ratings, for all values of all tables."""
        return torch.cat(self._shares)

    def weights(self) -> list[Tensor]:
        """The weights of all tables. Their rows are counted through in `shares` and `groups`."""
        return [table.weight for table in self._tables()]

    def groups(self, row_idx: Tensor) -> tuple[Groups, Groups]:
        """The values of each of these rows, and the positions in `row_idx` that have each value, weighted as in means.

        With these, the sum of the features and its gradient are two weighted sums, whatever the number of features.
        """
        sizes = [len(weight) for weight in self.weights()]
        members = [table.members(row_idx) for table in self._tables()]
        row_N = torch.cat([row for row, _, _ in members])
        value_N = torch.cat([value + sum(sizes[:number]) for number, (_, value, _) in enumerate(members)])
        weight_N = torch.cat([weight for _, _, weight in members])
        by_row, by_value = Sorted(row_N, len(row_idx)), Sorted(value_N, sum(sizes))
        return by_row.group(value_N, weight_N), by_value.group(row_N, weight_N)

    def _tables(self) -> list[FeatureTable]:
        return cast(list[FeatureTable], list(self.tables.values()))


class DateTables(nn.Module):
    """The tables of weekday, hour, month and year of a rating."""

    def __init__(self, dims: Dims, std: float) -> None:
        super().__init__()
        self.tables = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(n, dims[name]) * std) for name, n in DATE_VALUES.items() if name in dims}
        )
        self.width = sum(dims[name] for name in self.tables)

    def forward(self, rated_at: Tensor) -> Tensor:
        """(B,) seconds since 1970 -> (B, W); W is 0 if no date feature is used."""
        index_of = date_features(rated_at)
        vectors = [F.embedding(index_of[name], table) for name, table in self.tables.items()]
        return torch.cat(vectors, 1) if vectors else rated_at.new_zeros(len(rated_at), 0, dtype=torch.float32)

    def zero_unseen(self, rated_at: Tensor) -> None:
        """Zeroes the vectors of hours, months, ... without a training rating, because predictions may use them."""
        index_of = date_features(rated_at)
        for name, table in self.tables.items():
            zero_unseen(table, index_of[name])
