"""The keys of the rows of each network's tables."""

from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

from recsys.encode.dates import DAY_SECONDS
from recsys.models import Network
from recsys.models.moments import DAY_BITS
from recsys.models.ordinal import OrdinalNetwork
from recsys.models.rows import Keys, row_keys
from tests.support.planted import CLASSES, FEATURES, SIZES, build_any, change, parts, quick_config

USERS = np.arange(SIZES.n_users) * 7  # ids that differ from the indices; 0 is the unknown
ITEMS = np.arange(SIZES.n_items) * 5


def prepared(name: str) -> Network:
    network = build_any(name, quick_config(name))
    network.prepare(parts()[0])
    return network


def keys_of(network: Network) -> dict[str, Keys]:
    return row_keys(network, USERS, ITEMS)


@pytest.mark.parametrize("name", CLASSES)
def test_all_tables_of_users_and_movies_have_ids_as_keys(name: str) -> None:
    """In these networks, no other dimension has the length of a table."""
    network = prepared(name)
    keys = keys_of(network)
    for parameter_name, parameter in network.named_parameters():
        expected = {SIZES.n_users: USERS, SIZES.n_items: ITEMS}.get(len(parameter))
        if expected is not None:
            assert keys[parameter_name] is expected, parameter_name


@pytest.mark.parametrize("name", CLASSES)
def test_the_keys_of_a_table_are_unique(name: str) -> None:
    network = prepared(name)
    for parameter_name, keys in keys_of(network).items():
        assert len(keys) == len(network.get_parameter(parameter_name))
        assert len(np.unique(keys)) == len(keys)


def test_dense_layers_have_no_row_keys() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.user_projection = nn.Linear(3, SIZES.n_users)
            self.user = nn.Embedding(SIZES.n_users, 3)
            self.item_bias = nn.Parameter(torch.zeros(SIZES.n_items))
            self.other = nn.Embedding(SIZES.n_users, 3)
            self.users_of_old = nn.Embedding(SIZES.n_users + 1, 3)

    assert row_keys(cast(Network, Wide()), USERS, ITEMS).keys() == {"user.weight", "item_bias"}


def test_keys_of_days_and_knots_include_the_user() -> None:
    config = change(quick_config("ordinal"), min_ratings_per_day=1)
    network, train = build_any("ordinal", config), parts()[0]
    network.prepare(train)
    assert isinstance(network, OrdinalNetwork)
    keys = keys_of(network)
    days = {(USERS[user] << DAY_BITS) + at // DAY_SECONDS for user, at in pairs_of_user_and_second()}
    assert keys["moments.days.bias"].tolist() == [0, *sorted(days)]
    weeks = train.rated_at // (7 * DAY_SECONDS)
    assert keys["moments.weeks.vectors"].tolist() == [-1, *range(int(weeks.min()), int(weeks.max()) + 1)]
    assert network.moments.mood
    knots = keys["moments.mood.knots"]
    users, numbers = knots >> DAY_BITS, knots & ((1 << DAY_BITS) - 1)
    for user_idx in (0, 1, 30, SIZES.n_users - 1):
        n_ratings = int((train.user_idx == user_idx).sum())
        own = n_ratings // network.moments.mood.ratings_per_knot + 2
        assert numbers[users == USERS[user_idx]].tolist() == list(range(own))


def pairs_of_user_and_second() -> list[tuple[int, int]]:
    train = parts()[0]
    return list(zip(train.user_idx.tolist(), train.rated_at.tolist(), strict=True))


def test_keys_of_feature_values_are_their_names() -> None:
    keys = keys_of(prepared("hybrid"))
    unknown, *values = keys["item.features.genres.weight"].tolist()
    assert len(values) == len(FEATURES.item["genres"].names)
    for key, name in zip(values, FEATURES.item["genres"].names, strict=True):
        assert key.endswith(name)
        assert key != unknown
    assert "date.tables.weekday" not in keys
