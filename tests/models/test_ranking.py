import pytest
import torch
from torch import Tensor

from recsys.models import Interactions, Pairs
from recsys.models.negatives import fixed_negatives
from recsys.models.ranking import RankingNetwork, mean_for_unseen
from recsys.train.loop import score
from tests.support.planted import SIZES, concat, pairs_of, parts, rows_of

TRAIN, HELD_OUT = parts()


class TableRanking(RankingNetwork):
    """Scores from a given table."""

    def __init__(self, score_UI: Tensor) -> None:
        super().__init__(SIZES, SIZES.n_items)
        self.score_UI = score_UI
        self.item_table = torch.eye(SIZES.n_items)

    def user_rows(self, pairs: Pairs) -> Tensor:
        return self.score_UI[pairs.user_idx]

    def loss(self, batch: Interactions) -> Tensor:
        return self.score(batch).mean()


def with_scores(score_UI: Tensor) -> TableRanking:
    network = TableRanking(score_UI)
    assert network.prepare(TRAIN) is TRAIN
    return network


def test_a_score_is_the_dot_product_of_two_rows() -> None:
    table = torch.randn(SIZES.n_users, SIZES.n_items)
    users, items = torch.tensor([5, 0, 60]), torch.tensor([1, 40, 0])
    assert torch.equal(score(with_scores(table), pairs_of(users, items)), table[users, items])


def test_errors_agree_with_a_loop() -> None:
    torch.manual_seed(0)
    table = torch.randint(0, 4, (SIZES.n_users, SIZES.n_items)).float()  # few values, so that there are ties
    network, rows = with_scores(table), concat(HELD_OUT, TRAIN.take(slice(0, 50)))
    items, counts = fixed_negatives(rows, network.watched)
    for row, error in enumerate(network.errors(rows).tolist()):
        user, own = int(rows.user_idx[row]), table[rows.user_idx[row], rows.item_idx[row]].item()
        others = [table[user, item].item() for item in items[row][counts[row]].tolist()]
        wrong = [1.0 if other > own else 0.5 if other == own else 0.0 for other in others]
        assert error == pytest.approx(sum(wrong) / len(wrong))


def test_the_error_is_0_for_the_right_order_and_a_half_for_ties() -> None:
    first_of_each = torch.tensor(
        [HELD_OUT.user_idx.tolist().index(user) for user in HELD_OUT.user_idx.unique().tolist()]
    )
    rows, right = HELD_OUT.take(first_of_each), torch.zeros(SIZES.n_users, SIZES.n_items)
    right[rows.user_idx, rows.item_idx] = 1.0
    assert (with_scores(right).errors(rows) == 0).all()
    assert (with_scores(-right).errors(rows) == 1).all()
    assert (with_scores(torch.zeros_like(right)).errors(rows) == 0.5).all()


def test_a_user_who_watched_everything_has_an_error_of_a_half() -> None:
    items = torch.arange(1, SIZES.n_items)
    everything = rows_of(torch.full_like(items, 3), items, torch.zeros_like(items))
    network = TableRanking(torch.randn(SIZES.n_users, SIZES.n_items))
    network.prepare(everything)
    assert network.errors(everything).tolist() == [0.5] * len(items)


def test_errors_do_not_depend_on_the_stars() -> None:
    network = with_scores(torch.randn(SIZES.n_users, SIZES.n_items))
    others = rows_of(HELD_OUT.user_idx, HELD_OUT.item_idx, 4 - HELD_OUT.level_idx)
    assert torch.equal(network.errors(others), network.errors(HELD_OUT))


def test_unseen_rows_get_the_mean_of_the_seen_rows() -> None:
    rows = torch.tensor([[9.0, 9.0], [1.0, 2.0], [3.0, 6.0], [8.0, 8.0]])
    expected = torch.tensor([[2.0, 4.0], [1.0, 2.0], [3.0, 6.0], [2.0, 4.0]])
    assert torch.equal(mean_for_unseen(rows, torch.tensor([0, 1, 5, 0])), expected)
    assert torch.equal(mean_for_unseen(rows, torch.zeros(4, dtype=torch.int64)), torch.zeros(4, 2))
