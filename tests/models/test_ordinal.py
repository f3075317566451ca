import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from planted import pairs_of, rows_of
from torch import Tensor

from recsys.models.network import Sizes, TrainingConfig
from recsys.models.ordinal import OrdinalConfig, OrdinalNetwork, _SparseProduct, ordinal
from recsys.models.sparse import compress_rows

# (user, item, level) of three users and four movies; index 0 is the unknown; user 3 and movie 4 have one rating each
RATED = [(1, 1, 0), (1, 2, 2), (1, 3, 1), (2, 1, 2), (2, 2, 0), (3, 4, 1)]
TRAIN = rows_of(*torch.tensor(RATED).T)
SIZES = Sizes(n_users=4, n_items=5, levels=(1.0, 2.0, 4.0))
DIM, N_THRESHOLDS = 2, 2
L2, L2_THRESHOLDS = 0.3, 0.07
CONFIG = OrdinalConfig(
    embedding_dim=DIM,
    l2=L2,
    l2_thresholds=L2_THRESHOLDS,
    training=TrainingConfig(epochs=1, batch_size=4, learning_rate=0.1, schedule="constant"),
)

Rows = list[list[float]]


@pytest.fixture
def network() -> OrdinalNetwork:
    """Every weight drawn at random, those of unseen ids too."""
    network = OrdinalNetwork(CONFIG, SIZES)
    network.prepare(TRAIN)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(0, 0.7, generator=generator)
    network.freeze()
    return network


def history(own: Rows, implicit: Rows, rated: list[list[int]]) -> Rows:
    """own + |N|^-½ Σ implicit over N, loop by loop."""
    table = []
    for row, neighbours in zip(own, rated, strict=True):
        scale = len(neighbours) ** -0.5 if neighbours else 0.0
        table.append([row[d] + scale * sum(implicit[j][d] for j in neighbours) for d in range(DIM + 1)])
    return table


def tables_by_hand(network: OrdinalNetwork) -> tuple[Rows, Rows]:
    items_of = [[item for user, item, _ in RATED if user == u] for u in range(SIZES.n_users)]
    users_of = [[user for user, item, _ in RATED if item == i] for i in range(SIZES.n_items)]
    users = history(network.user.tolist(), network.item_implicit.tolist(), items_of)
    items = history(network.item.tolist(), network.user_implicit.tolist(), users_of)
    return users, items


def logits_by_hand(network: OrdinalNetwork, user: int, item: int) -> list[float]:
    users, items = tables_by_hand(network)
    u, i = users[user], items[item]
    score = sum(u[d] * i[d] for d in range(DIM)) + u[DIM] + i[DIM]
    theta, a, d = network.thresholds.tolist(), network.user_thresholds.tolist(), network.item_thresholds.tolist()
    return [score - theta[t] - a[user][t] - d[item][t] for t in range(N_THRESHOLDS)]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_tables_by_hand(network: OrdinalNetwork) -> None:
    users, items = tables_by_hand(network)
    user_table, item_table = network.tables()
    expected_users = torch.cat([torch.tensor(users), network.user_thresholds], dim=1)
    expected_items = torch.cat([torch.tensor(items), network.item_thresholds], dim=1)
    torch.testing.assert_close(user_table, expected_users)
    torch.testing.assert_close(item_table, expected_items)


@pytest.mark.parametrize("user", range(SIZES.n_users))
def test_probabilities_by_hand(network: OrdinalNetwork, user: int) -> None:
    for item in range(SIZES.n_items):
        first, second = (sigmoid(logit) for logit in logits_by_hand(network, user, item))
        second = min(first, second)  # more than two levels up is never likelier than more than one
        by_hand = [1 - first, first - second, second]
        p_K = network.probabilities(pairs_of(torch.tensor([user]), torch.tensor([item]))).squeeze(0)
        assert p_K.tolist() == pytest.approx(by_hand, abs=1e-6)


def test_some_thresholds_cross_in_the_tiny_case(network: OrdinalNetwork) -> None:
    """Or the test above would not see that a distribution's must not."""
    pairs = [(user, item) for user in range(SIZES.n_users) for item in range(SIZES.n_items)]
    crossing = [first < second for first, second in (logits_by_hand(network, *pair) for pair in pairs)]
    assert 0 < sum(crossing) < len(pairs)


def test_loss_by_hand(network: OrdinalNetwork) -> None:
    """Binary cross-entropy summed over thresholds, and L2 of each rating's rows; the mean over ratings."""
    batch = [RATED[0], RATED[1], RATED[0], RATED[5]]  # a row twice counts twice
    total = 0.0
    for user, item, level in batch:
        for t, logit in enumerate(logits_by_hand(network, user, item)):
            exceeds = sigmoid(logit)
            total -= math.log(exceeds if level > t else 1 - exceeds)
        total += L2 * sum(norm2(row) for row in (network.user[user], network.user_implicit[user]))
        total += L2 * sum(norm2(row) for row in (network.item[item], network.item_implicit[item]))
        total += L2_THRESHOLDS * (norm2(network.user_thresholds[user]) + norm2(network.item_thresholds[item]))
    loss = network.loss(rows_of(*torch.tensor(batch).T))
    assert loss.item() == pytest.approx(total / len(batch), rel=1e-5)


def norm2(row: Tensor) -> float:
    return sum(float(value) ** 2 for value in row.detach())


def test_every_pair_starts_with_the_overall_distribution() -> None:
    network = OrdinalNetwork(CONFIG, SIZES)
    network.prepare(TRAIN)
    network.freeze()
    p_K = network.probabilities(pairs_of(torch.tensor([0]), torch.tensor([0]))).squeeze(0)
    assert p_K.tolist() == pytest.approx([3 / 9, 3 / 9, 3 / 9])  # two of each level, and one more against infinities
    skewed = replace(TRAIN, level_idx=torch.tensor([2, 2, 2, 2, 2, 0]))
    network.prepare(skewed)
    network.freeze()
    p_K = network.probabilities(pairs_of(torch.tensor([0]), torch.tensor([0]))).squeeze(0)
    assert p_K.tolist() == pytest.approx([2 / 9, 1 / 9, 6 / 9])


def test_history_counts_ratings_whatever_the_stars(network: OrdinalNetwork) -> None:
    before = network.tables()[0]
    weights = {name: weight.clone() for name, weight in network.state_dict().items()}
    network.prepare(replace(TRAIN, level_idx=2 - TRAIN.level_idx))
    network.load_state_dict(weights)
    assert torch.equal(network.tables()[0], before)


def test_biases_start_at_zero_and_vectors_at_their_spread() -> None:
    torch.manual_seed(0)
    config = CONFIG.model_copy(update={"init_std": 0.3, "embedding_dim": 40})
    network = OrdinalNetwork(config, Sizes(500, 500, SIZES.levels))
    for vectors in (network.user, network.item, network.user_implicit, network.item_implicit):
        assert (vectors[:, -1] == 0).all()
        assert vectors[:, :-1].std().item() == pytest.approx(0.3, rel=0.02)


def test_training_before_prepare_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="prepare"):
        OrdinalNetwork(CONFIG, SIZES).loss(TRAIN)


def sparse_and_transposed(rows: list[int], columns: list[int], shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    at_rows, at_columns = torch.tensor(rows), torch.tensor(columns)
    values = torch.linspace(0.5, 2, len(rows), dtype=torch.float64)
    n_rows, n_columns = shape
    return (
        compress_rows(at_rows, at_columns, values, (n_rows, n_columns)),
        compress_rows(at_columns, at_rows, values, (n_columns, n_rows)),
    )


def test_sparse_product_and_its_gradient() -> None:
    matrix, transposed = sparse_and_transposed([3, 0, 0, 2], [1, 4, 0, 1], (4, 5))
    assert torch.equal(transposed.to_dense(), matrix.to_dense().T)
    dense = torch.randn(5, 3, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(0))

    def product(x: Tensor) -> Any:
        return _SparseProduct.apply(matrix, transposed, x)  # type: ignore[no-untyped-call]

    torch.testing.assert_close(product(dense), matrix.to_dense() @ dense)
    assert torch.autograd.gradcheck(product, (dense,))


def test_compressed_rows_hold_each_entry_at_its_place() -> None:
    rows, columns = torch.tensor([2, 0, 2, 0]), torch.tensor([3, 1, 0, 0])
    matrix = compress_rows(rows, columns, torch.tensor([1.0, 2.0, 3.0, 4.0]), (3, 4))
    assert matrix.to_dense().tolist() == [[4, 2, 0, 0], [0, 0, 0, 0], [3, 0, 0, 1]]


@pytest.mark.parametrize(
    ("n_ratings", "n_levels", "l2"),
    [(750_000, 5, 0.13), (75_000, 5, 0.13 * 10**0.15), (750_000, 10, 0.2925), (20_000, 5, 0.2238), (100, 5, 0.2238)],
)
def test_penalties_of_the_experiments(n_ratings: int, n_levels: int, l2: float) -> None:
    config = ordinal(n_ratings, n_levels)
    assert config.l2 == pytest.approx(l2, rel=1e-3)
    assert config.l2_thresholds == pytest.approx(0.3 * config.l2)
