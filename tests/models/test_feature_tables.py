from typing import cast

import numpy as np
import pytest
import torch

from recsys.encode.features import Feature
from recsys.models.feature_tables import DateTables, FeatureSum, FeatureTable, SideTables
from recsys.models.rows import HasRowKeys

# values of the rows: unknown id; a and b; b; not known
GENRES = Feature(("a", "b", "c"), torch.tensor([0, 1, 3, 4, 5]), torch.tensor([0, 1, 2, 2, 0]))
COLOUR = Feature(("red", "blue"), torch.tensor([0, 1, 2, 3, 4]), torch.tensor([0, 1, 2, 1]))
DIMS = {"item": 2, "genres": 3, "colour": 4, "weekday": 2, "month": 3}
FRIDAY = 1_000_000_000 - 2 * 86_400  # 7 September 2001


@pytest.fixture
def side() -> SideTables:
    torch.manual_seed(0)
    return SideTables("item", 4, {"genres": GENRES, "colour": COLOUR, "unsized": COLOUR}, DIMS, 0.1)


def test_the_vector_of_a_row_is_the_mean_of_its_values() -> None:
    table = FeatureTable(GENRES, 3, 1.0)
    weight = table.weight.detach()
    expected = torch.stack([weight[0], (weight[1] + weight[2]) / 2, weight[2], weight[0]])
    torch.testing.assert_close(table().detach(), expected)


def test_vectors_are_concatenated_with_their_configured_lengths(side: SideTables) -> None:
    assert side.width == 2 + 3 + 4
    assert list(side.features) == ["genres", "colour"]
    rows = torch.tensor([2, 1, 2])
    parts = side(rows, 0.0).split([2, 3, 4], dim=1)
    genres, colour = (table()[rows] for table in side.features.values())
    for part, expected in zip(parts, (side.own[rows], genres, colour), strict=True):
        assert torch.equal(part, expected)


def test_without_features_there_is_only_the_id_vector() -> None:
    side = SideTables("item", 4, {}, DIMS, 0.1)
    assert torch.equal(side(torch.tensor([3]), 0.0), side.own[[3]])
    assert side.width == 2


def test_rows_and_values_unseen_in_training_are_zero(side: SideTables) -> None:
    side.zero_unseen(torch.tensor([2, 2]))
    zero = {name: (weight == 0).all(1).tolist() for name, weight in side.named_parameters()}
    assert zero == {
        "own": [True, True, False, True],
        "features.genres.weight": [True, True, False, True],
        "features.colour.weight": [True, True, False],
    }


def test_a_share_of_the_id_vectors_is_hidden_in_training_only(side: SideTables) -> None:
    rows = torch.full((10_000,), 2)
    hidden = (side(rows, 0.3)[:, :2] == 0).all(1)
    assert hidden.float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert (side(rows, 0.3)[:, 2:] == side(rows, 0.0)[0, 2:]).all()
    assert torch.equal(side.eval()(rows, 0.3)[0], side(rows, 0.0)[0])
    assert not (side(rows, 0.3) == 0).any()


def test_row_keys_are_the_names_of_the_values() -> None:
    ids = np.arange(9)
    names = [FeatureTable(feature, 3, 1.0).row_keys(ids, ids)["weight"].tolist() for feature in (GENRES, COLOUR)]
    assert names == [["not known", "value a", "value b", "value c"], ["not known", "value red", "value blue"]]
    assert isinstance(FeatureTable(GENRES, 3, 1.0), HasRowKeys)


def test_only_the_weights_are_saved(side: SideTables) -> None:
    assert set(side.state_dict()) == {"own", "features.genres.weight", "features.colour.weight"}


def test_date_features_have_their_own_vectors() -> None:
    tables = DateTables(DIMS, 0.1)
    assert tables.width == 5
    found = tables(torch.tensor([FRIDAY, FRIDAY + 86_400, 0]))
    expected = [
        torch.cat([tables.tables["month"][month], tables.tables["weekday"][weekday]])
        for weekday, month in ((5, 9), (6, 9), (0, 0))
    ]
    assert torch.equal(found, torch.stack(expected))


def test_dates_without_a_training_rating_are_zero() -> None:
    tables = DateTables(DIMS, 0.1)
    tables.zero_unseen(torch.tensor([FRIDAY]))
    assert (tables.tables["weekday"] != 0).any(1).nonzero().flatten().tolist() == [5]
    assert (tables.tables["month"] != 0).any(1).nonzero().flatten().tolist() == [9]


def test_dates_that_are_not_used_have_no_column() -> None:
    assert DateTables({"item": 2}, 0.1)(torch.tensor([FRIDAY, 0])).shape == (2, 0)


@pytest.fixture
def total() -> FeatureSum:
    torch.manual_seed(0)
    return FeatureSum(
        4, {"genres": GENRES, "colour": COLOUR, "unnamed": COLOUR}, ("genres", "colour", "absent"), 3, 0.1
    )


def test_the_sum_adds_feature_vectors_and_is_zero_for_the_unknown(total: FeatureSum) -> None:
    assert list(total.tables) == ["genres", "colour"]
    genres, colour = (cast(FeatureTable, table)().detach() for table in total.tables.values())
    torch.testing.assert_close(total().detach(), genres + colour)
    assert total().shape == (4, 4)
    assert (total()[:, 3] == 0).all()
    assert (total()[0] == 0).all()


def test_without_any_feature_the_sum_is_zero() -> None:
    nothing = FeatureSum(4, {}, ("genres",), 3, 0.1)
    nothing.prepare(torch.tensor([1]))
    assert nothing().shape == (4, 4)
    assert (nothing() == 0).all()
    assert nothing.weights() == []


def test_the_share_of_each_value_among_training_ratings(total: FeatureSum) -> None:
    """The ratings are of row 1 (genres a and b), twice of row 2, and of row 3 (genre not known)."""
    total.prepare(torch.tensor([1, 2, 2, 3]))
    genres, colour = [1 / 4, 1 / 8, 5 / 8, 0], [0, 2 / 4, 2 / 4]
    assert total.shares().tolist() == genres + colour


def test_groups_give_the_features_of_some_rows_and_their_gradient(total: FeatureSum) -> None:
    rows, slopes = torch.tensor([2, 1, 3, 1]), torch.rand(4, 4)
    by_row, by_value = total.groups(rows)
    weights = total.weights()
    torch.testing.assert_close(by_row.sum(torch.cat(weights), weighted=True), total()[rows])
    expected = torch.autograd.grad((total()[rows] * slopes).sum(), weights)
    torch.testing.assert_close(by_value.sum(slopes, weighted=True), torch.cat(expected))
