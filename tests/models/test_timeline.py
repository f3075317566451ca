from dataclasses import replace

import pytest
import torch

from recsys.models import Interactions, Pairs
from recsys.models.timeline import MOMENT_BITS, Timeline, in_order_of_time
from tests.support.planted import parts


def watched(*rows: tuple[int, int, int]) -> Interactions:
    """Interactions from (user, item, moment)."""
    user_idx, item_idx, rated_at = torch.tensor(rows).unbind(1)
    return Interactions(user_idx, item_idx, rated_at, torch.zeros_like(user_idx))


HISTORY = watched((2, 7, 50), (1, 5, 30), (1, 6, 10), (2, 8, 20), (1, 9, 30), (4, 3, 0), (4, 2, 40))


def keep(rows: Interactions, n_users: int = 6) -> Timeline:
    timeline = Timeline()
    timeline.keep(in_order_of_time(rows), n_users)
    return timeline


def before(timeline: Timeline, user: int, moment: int) -> list[int]:
    """The items that the user watched before this time, sorted."""
    one = torch.tensor([user])
    place, end = timeline.places(Pairs(one, one, torch.tensor([moment])))
    assert end.item() == timeline.offsets[user + 1]
    return sorted(timeline.items[timeline.offsets[user] : int(place)].tolist())


@pytest.mark.parametrize(
    ("user", "moment", "items"),
    [
        (1, 10, []),  # an interaction in the same second is not before it
        (1, 11, [6]),
        (1, 30, [6]),
        (1, 31, [5, 6, 9]),
        (1, 10**11, [5, 6, 9]),
        (1, 0, [5, 6, 9]),  # an unknown time: all interactions
        (2, 20, []),
        (2, 21, [8]),
        (2, 60, [7, 8]),
        (3, 40, []),
        (3, 0, []),
        (0, 0, []),
        (4, 1, [3]),  # an interaction at an unknown time is before every time
        (4, 40, [3]),
        (4, 41, [2, 3]),
        (5, 99, []),
    ],
)
def test_interactions_before_a_time(user: int, moment: int, items: list[int]) -> None:
    assert before(keep(HISTORY), user, moment) == items


def test_a_batch_of_pairs_agrees_with_a_loop() -> None:
    train, asked = parts()
    timeline = keep(train, 61)
    place, end = timeline.places(asked)
    for row in range(len(asked)):
        user, moment = asked.user_idx[row], asked.rated_at[row]
        own = train.user_idx == user
        assert place[row] - timeline.offsets[user] == (own & (train.rated_at < moment)).sum()
        assert end[row] - timeline.offsets[user] == own.sum()


def test_the_order_is_by_user_and_time_for_any_order_of_rows() -> None:
    rows = parts()[0]
    ordered = in_order_of_time(rows)
    keys = ordered.user_idx * 10**12 + ordered.rated_at
    assert (keys.diff() > 0).all()
    again = in_order_of_time(rows.take(torch.randperm(len(rows))))
    assert torch.equal(again.item_idx, ordered.item_idx)


def test_interactions_of_one_second_have_a_fixed_pseudo_random_order() -> None:
    """MovieLens 1M has up to 30 ratings in one second. A network would learn an order by item."""
    items = torch.arange(1, 101)
    rows = Interactions(torch.full_like(items, 1), items, torch.full_like(items, 5), torch.zeros_like(items))
    ordered = in_order_of_time(rows).item_idx
    assert torch.equal(in_order_of_time(rows.take(items.flip(0) - 1)).item_idx, ordered)
    assert torch.equal(ordered.sort().values, items)
    assert 30 < (ordered.diff() > 0).sum() < 70
    assert not torch.equal(in_order_of_time(replace(rows, user_idx=rows.user_idx + 1)).item_idx, ordered)


def test_a_timeline_is_saved_with_the_weights() -> None:
    timeline, loaded = keep(HISTORY), Timeline()
    loaded.load_state_dict(timeline.state_dict())
    assert before(loaded, 1, 31) == before(timeline, 1, 31) == [5, 6, 9]
    assert torch.equal(loaded.moments, timeline.moments)


def test_without_times_the_order_is_kept_and_all_interactions_are_before_a_later_time() -> None:
    timeline = keep(HISTORY)
    kept = [before(timeline, user, 51) for user in range(5)]
    timeline.load_state_dict(timeline.state_dict() | timeline.timeless())
    assert [before(timeline, user, 51) for user in range(5)] == kept
    assert (timeline.moments & (1 << MOMENT_BITS) - 1).tolist() == [0] * len(timeline.items)
