from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from recsys.models import Interactions, Pairs, Sizes
from recsys.models.negatives import NegativeSampler
from recsys.models.sequence import SequenceConfig, SequenceNetwork, Windows, sequence
from recsys.train.loop import fit_network, score
from tests.support.planted import concat, interactions, pairs_of, parts, ratings

LEVELS = (1.0, 2.0, 3.0, 4.0, 5.0)
SIZES = Sizes(n_users=61, n_items=41, levels=LEVELS)
TRAIN, HELD_OUT = parts()


def config_of(**fields: object) -> SequenceConfig:
    return SequenceConfig.model_validate({**dict(sequence(1000, 5)), **fields})


def build(config: SequenceConfig, sizes: Sizes = SIZES) -> SequenceNetwork:
    torch.manual_seed(0)
    return SequenceNetwork(config, sizes)


def fitted(train: Interactions = TRAIN, **fields: object) -> SequenceNetwork:
    network = build(config_of(**fields))
    fit_network(network, train, network.config.training, stop_after=2)
    return network


def history_of(rows: Interactions, user: int, moment: int) -> list[int]:
    """The user's items before `moment` in order of time. If `moment` is 0, all items."""
    own = rows.take((rows.user_idx == user) & ((rows.rated_at < moment) | (moment == 0)))
    return list(own.item_idx[own.rated_at.argsort()].tolist())


def score_by_hand(network: SequenceNetwork, history: list[int], item: int) -> float:
    """The score with the GRU written out step by step."""
    weights, state = dict(network.reader.named_parameters()), torch.zeros(network.config.state_dim)
    for each in [0, *history[-(network.config.window - 1) :]]:
        x_reset, x_update, x_new = (weights["weight_ih_l0"] @ network.item[each] + weights["bias_ih_l0"]).chunk(3)
        h_reset, h_update, h_new = (weights["weight_hh_l0"] @ state + weights["bias_hh_l0"]).chunk(3)
        update = torch.sigmoid(x_update + h_update)
        new = torch.tanh(x_new + torch.sigmoid(x_reset + h_reset) * h_new)
        state = (1 - update) * new + update * state
    return ((network.to_item.weight @ state) @ network.item[item] + network.item_bias[item]).item()


@pytest.mark.parametrize("window", [4, 50])
def test_scores_agree_with_a_loop(window: int) -> None:
    network = fitted(window=window)
    pairs = concat(HELD_OUT.take(slice(0, 30)), replace(HELD_OUT, rated_at=HELD_OUT.rated_at * 0).take(slice(0, 10)))
    with torch.no_grad():
        expected = [
            score_by_hand(network, history_of(TRAIN, user, moment), item)
            for user, item, moment in zip(
                *(c.tolist() for c in (pairs.user_idx, pairs.item_idx, pairs.rated_at)), strict=True
            )
        ]
    torch.testing.assert_close(score(network, pairs), torch.tensor(expected), atol=1e-5, rtol=1e-4)


def test_interactions_at_or_after_the_time_do_not_change_scores() -> None:
    """Scores stay bit-identical if all movies from that time on are replaced by others."""
    network = fitted()
    user = int(torch.bincount(TRAIN.user_idx).argmax())
    own = TRAIN.user_idx == user
    moment = int(TRAIN.rated_at[own].median()) + 1
    later = own & (TRAIN.rated_at > moment)
    at_once = torch.arange(len(TRAIN)) == later.nonzero()[0]
    changed = replace(
        TRAIN,
        item_idx=torch.where(later, TRAIN.item_idx % 40 + 1, TRAIN.item_idx),
        rated_at=torch.where(at_once, moment, TRAIN.rated_at),
    )
    asked = Pairs(torch.full((41,), user), torch.arange(41), torch.full((41,), moment))
    other = build(network.config)
    other.prepare(changed)
    other.load_state_dict({**network.state_dict(), **other.timeline.state_dict(prefix="timeline.")})
    assert torch.equal(score(other, asked), score(network, asked))
    after = replace(asked, rated_at=asked.rated_at * 0)
    other.eval().freeze()
    assert not torch.equal(score(other, after), score(network, after))


def test_a_time_after_all_interactions_equals_an_unknown_time() -> None:
    network, users = fitted(), torch.arange(61).repeat(41)
    unknown = pairs_of(users, torch.arange(41).repeat_interleave(61))
    assert torch.equal(score(network, replace(unknown, rated_at=users * 0 + 4 * 10**9)), score(network, unknown))


def test_a_loaded_network_includes_the_histories() -> None:
    network, loaded = fitted(), build(config_of())
    loaded.load_state_dict(network.state_dict())
    assert torch.equal(score(loaded, HELD_OUT), score(network, HELD_OUT))


def test_windows_contain_every_interaction_once() -> None:
    network = build(config_of(window=7))
    rows = network.prepare(TRAIN)
    assert isinstance(rows, Windows)
    ends = torch.cat([rows.place[1:], torch.tensor([len(TRAIN)])])
    assert rows.place[0] == 0
    assert ((ends - rows.place >= 1) & (ends - rows.place <= 7)).all()
    counts = torch.bincount(TRAIN.user_idx, minlength=61)
    assert torch.equal(torch.bincount(rows.user_idx, minlength=61), (counts + 6) // 7)


@pytest.mark.parametrize("n_negatives", [3, 40])
def test_loss_by_hand(n_negatives: int) -> None:
    """The loss of a window of 5 interactions. With 40 negatives, the number of movies, all movies are compared."""
    network = build(config_of(window=5, n_negatives=n_negatives, popularity_exponent=1.0)).eval()
    rows = network.prepare(TRAIN)
    one = rows.take((rows.place.diff() == 5).nonzero()[3])  # a window of full length
    place, count_I = int(one.place), torch.bincount(TRAIN.item_idx, minlength=41)
    items = network.timeline.items[place : place + 5].tolist()
    torch.manual_seed(5)
    torch.randint(0, 1, (1,))  # the draw of the shift, which is 0 in eval mode
    drawn = NegativeSampler.fit(network.watched, 1.0).draw(n_negatives).tolist()
    losses = []
    for nth, item in enumerate(items):
        if n_negatives == 40:
            scores = [score_by_hand(network, items[:nth], other) for other in range(1, 41)]
            losses.append(F.cross_entropy(torch.tensor(scores), torch.tensor(item - 1)))
            continue
        compared = [item, *(other for other in drawn if other != item)]
        scores = [score_by_hand(network, items[:nth], other) for other in compared]
        log_share = (count_I[compared] / len(TRAIN)).log()
        losses.append(F.cross_entropy(torch.tensor(scores) - log_share, torch.tensor(0)))
    torch.manual_seed(5)
    assert network.loss(one).item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def cycles(n_users: int, n_items: int, length: int) -> Interactions:
    """Each user watches the movies 1, 2, …, n_items, 1, … one minute apart, starting at a random movie."""
    first = torch.randint(0, n_items, (n_users, 1), generator=torch.Generator().manual_seed(0))
    items = (first + torch.arange(length)) % n_items + 1
    users = torch.arange(1, n_users + 1)[:, None].expand_as(items)
    moments = 1_000_000_000 + 60 * torch.arange(length).expand_as(items)
    return Interactions(users.flatten(), items.flatten(), moments.flatten(), torch.zeros_like(items.flatten()))


def test_the_next_movie_of_a_cycle_is_predicted() -> None:
    """The next movie depends only on the last one. It has the highest score for 90% of the users."""
    train = cycles(n_users=100, n_items=20, length=25)
    network = build(config_of(), Sizes(101, 21, LEVELS))
    fit_network(network, train, sequence(len(train), 5).training)
    last = train.item_idx.view(100, 25)[:, -1]
    users = torch.arange(1, 101).repeat_interleave(20)
    scores = score(network, pairs_of(users, torch.arange(1, 21).repeat(100))).view(100, 20)
    assert (scores.argmax(1) + 1 == last % 20 + 1).float().mean().item() >= 0.9


def test_without_a_history_popular_movies_rank_first() -> None:
    train = interactions(ratings(1200))
    network = build(config_of())
    fit_network(network, train, network.config.training)
    scores = score(network, pairs_of(torch.zeros(40, dtype=torch.int64), torch.arange(1, 41)))
    counts = torch.bincount(train.item_idx, minlength=41)[1:]
    ranks = torch.stack([values.argsort().argsort().double() for values in (scores, counts)])
    # 0.59 to more than 0.6, depending on the CPU; unrelated orders of 40 movies exceed 0.5 with a probability of 0.1%
    assert torch.corrcoef(ranks)[0, 1].item() > 0.5
