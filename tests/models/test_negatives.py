import numpy as np
import pytest
import torch

from recsys.models import Sizes
from recsys.models.negatives import NegativeSampler, Watched, fixed_negatives, mix
from recsys.split.cut import splitmix64
from tests.support.planted import SIZES, pairs_of, parts, rows_of

ROWS = parts()[0]
COUNTS = torch.tensor([0, 1, 3, 0, 9])  # of items 0 to 4


@pytest.fixture
def watched() -> Watched:
    """Users 1 to 9 watched item 4, some also other items. Users 10 and 11 and items 0 and 3 have no interactions."""
    users = [*range(1, 10), 1, 2, 3, 1]
    items = [4] * 9 + [2, 2, 2, 1]
    rows = rows_of(torch.tensor(users), torch.tensor(items), torch.zeros(13, dtype=torch.int64))
    return Watched(rows, Sizes(12, 5, (1.0, 2.0)))


def test_watched_contains_exactly_the_training_rows() -> None:
    watched = Watched(ROWS, SIZES)
    table = torch.zeros(SIZES.n_users, SIZES.n_items, dtype=torch.bool)
    table[ROWS.user_idx, ROWS.item_idx] = True
    users, items = torch.arange(SIZES.n_users), torch.arange(SIZES.n_items)
    assert torch.equal(watched.contains(users[:, None], items), table)
    assert torch.equal(watched.count_U, table.sum(1))
    assert torch.equal(watched.count_I, table.sum(0))


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_items_are_drawn_in_proportion_to_a_power_of_their_count(watched: Watched, exponent: float) -> None:
    assert torch.equal(watched.count_I, COUNTS)
    torch.manual_seed(0)
    sampler = NegativeSampler.fit(watched, exponent)
    drawn = sampler.draw(20_000, 2)
    assert drawn.shape == (20_000, 2)
    share = torch.bincount(drawn.flatten(), minlength=5).double() / drawn.numel()
    weight = torch.where(COUNTS > 0, COUNTS.double() ** exponent, 0.0)
    expected = weight / weight.sum()
    assert ((share - expected).abs() <= 5 * (expected * (1 - expected) / drawn.numel()).sqrt()).all()
    assert (share[COUNTS == 0] == 0).all()
    known = COUNTS > 0
    torch.testing.assert_close(sampler.log_probability_I[known].exp(), expected[known].float())


def test_draws_depend_on_the_seed(watched: Watched) -> None:
    sampler, draws = NegativeSampler.fit(watched, 0.5), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(sampler.draw(50))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_the_correction_subtracts_the_log_probability(watched: Watched) -> None:
    corrected = NegativeSampler.fit(watched, 1.0).correct(torch.tensor([[5.0, 5.0], [0.0, 2.0]]), torch.tensor([2, 4]))
    torch.testing.assert_close(corrected, torch.tensor([[5.0, 5.0], [0.0, 2.0]]) - torch.tensor([3 / 13, 9 / 13]).log())


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_corrected_scores_learn_the_log_share_of_each_item(watched: Watched, exponent: float) -> None:
    """For any way of drawing negatives, the learned score of an item is its log share plus a constant.

    With one score per item, the expected BPR gradient on corrected scores is zero there.
    """
    sampler, known = NegativeSampler.fit(watched, exponent), (COUNTS > 0).nonzero().squeeze(1)
    share, chance = COUNTS[known] / COUNTS.sum(), sampler.log_probability_I[known].exp()
    score = (share.log() + 7.0).requires_grad_()
    corrected = sampler.correct(score, known)
    loss_of_pairs = torch.nn.functional.softplus(corrected[None, :] - corrected[:, None])
    (loss_of_pairs * share[:, None] * chance[None, :]).sum().backward()
    assert score.grad is not None
    torch.testing.assert_close(score.grad, torch.zeros(3), atol=1e-6, rtol=0)


def test_fixed_negatives_count_if_the_user_did_not_watch_them() -> None:
    watched = Watched(ROWS, SIZES)
    pairs = pairs_of(torch.arange(SIZES.n_users).repeat(20), torch.arange(20).repeat_interleave(SIZES.n_users))
    items, counts = fixed_negatives(pairs, watched, n=30)
    assert items.shape == counts.shape == (len(pairs), 30)
    assert (watched.count_I[items] > 0).all()
    seen = watched.contains(pairs.user_idx[:, None], items)
    assert torch.equal(counts, ~seen & (items != pairs.item_idx[:, None]))
    assert seen.any()
    assert (items == pairs.item_idx[:, None]).any()


def test_fixed_negatives_depend_on_the_pair_only() -> None:
    watched, pairs = Watched(ROWS, SIZES), pairs_of(torch.tensor([3, 4, 3, 3]), torch.tensor([9, 9, 9, 8]))
    torch.manual_seed(1)
    items, _ = fixed_negatives(pairs, watched)
    torch.manual_seed(2)
    alone, _ = fixed_negatives(pairs.take(slice(2, 3)), watched)
    assert torch.equal(items[2], alone[0])
    assert torch.equal(items[2], items[0])
    assert not torch.equal(items[0], items[1])
    assert not torch.equal(items[0], items[3])


def test_fixed_negatives_are_uniformly_distributed() -> None:
    watched = Watched(ROWS, SIZES)
    users, items = torch.cartesian_prod(torch.arange(300), torch.arange(100)).unbind(1)
    drawn, _ = fixed_negatives(pairs_of(users % SIZES.n_users, items % SIZES.n_items), watched, n=20)
    one_of_each, _ = fixed_negatives(pairs_of(users, items), Watched(ROWS, Sizes(300, SIZES.n_items, (1.0,))), n=20)
    assert len(drawn) == len(one_of_each)
    share = torch.bincount(one_of_each.flatten(), minlength=SIZES.n_items)[watched.items] / one_of_each.numel()
    n = len(watched.items)
    assert (share - 1 / n).abs().max() < 5 * (1 / n / one_of_each.numel()) ** 0.5


def test_mix_equals_splitmix64_of_the_split() -> None:
    """The torch version equals the numpy version, including negative numbers."""
    values = torch.tensor([0, 1, 2, -1, 2**62, -(2**63), 2**63 - 1])
    assert np.array_equal(mix(values).numpy().view(np.uint64), splitmix64(values.numpy().view(np.uint64)))
