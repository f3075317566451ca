from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.models import Sizes
from recsys.retrieve.histories import Histories, gather_histories, split_by_size
from tests.support import planted
from tests.support.planted import LEVELS
from tests.support.rankers import histories_of, random_histories

N_USERS, N_ITEMS = 5, 6
Rows = list[tuple[int, int, int]]  # user_idx, item_idx, level_idx
Lists = list[dict[int, float]]  # for each user, stars by item

ROWS = st.lists(st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1), st.integers(0, 4)), max_size=40)


def gather(rows: Rows) -> Histories:
    columns = torch.tensor(rows, dtype=torch.int64).view(-1, 3).unbind(1)
    return gather_histories(planted.rows_of(*columns), Sizes(N_USERS, N_ITEMS, LEVELS))


def slow_lists(rows: Rows) -> Lists:
    """The last row of a repeated pair wins."""
    lists: Lists = [{} for _ in range(N_USERS)]
    for user, item, level in rows:
        lists[user][item] = LEVELS[level]
    return [dict(sorted(stars.items())) for stars in lists]


def lists_in(histories: Histories) -> Lists:
    def read() -> Iterator[dict[int, float]]:
        for user in range(len(histories)):
            rows = slice(int(histories.offsets[user]), int(histories.offsets[user + 1]))
            yield dict(zip(histories.items[rows].tolist(), histories.stars[rows].tolist(), strict=True))

    assert histories.offsets[0] == 0
    assert len(histories.items) == len(histories.stars) == histories.offsets[-1]
    assert (histories.offsets.dtype, histories.items.dtype) == (torch.int64, torch.int64)
    assert histories.stars.dtype == torch.float32
    lists = list(read())
    assert all(list(stars) == sorted(stars) for stars in lists), "items do not ascend within a user"
    return lists


def test_histories_group_items_by_user() -> None:
    histories = gather([(3, 4, 0), (1, 2, 1), (3, 1, 2), (1, 5, 3), (1, 2, 4)])
    assert lists_in(histories) == [{}, {2: 5.0, 5: 4.0}, {}, {1: 3.0, 4: 1.0}, {}]
    assert [histories.of(user).tolist() for user in range(5)] == [[], [2, 5], [], [1, 4], []]
    assert histories.sizes().tolist() == [0, 2, 0, 2, 0]
    assert histories.counts().tolist() == [0, 1, 1, 0, 1, 1]
    assert histories.user_of_each().tolist() == [1, 1, 3, 3]
    seen = [[0] * 6, [0, 0, 1, 0, 0, 1], [0] * 6, [0, 1, 0, 0, 1, 0], [0] * 6]
    assert histories.seen().to_dense().tolist() == seen
    assert histories.matrix().toarray().tolist() == seen


def test_the_unknown_item_has_no_ratings() -> None:
    assert histories_of({1: [0, 2]}, n_users=2, n_items=3).counts().tolist() == [0, 0, 1]


@given(rows=ROWS)
def test_the_last_row_of_a_pair_counts(rows: Rows) -> None:
    assert lists_in(gather(rows)) == slow_lists(rows)


@given(rows=ROWS, users=st.lists(st.integers(0, N_USERS - 1), max_size=9))
def test_take_accepts_any_order_and_repeats(rows: Rows, users: list[int]) -> None:
    taken = gather(rows).take(torch.tensor(users, dtype=torch.int64))
    assert lists_in(taken) == [slow_lists(rows)[user] for user in users]
    assert taken.n_items == N_ITEMS


@given(rows=ROWS, n=st.integers(0, 7), seed=st.integers(0, 3))
def test_shortened_histories_are_subsets(rows: Rows, n: int, seed: int) -> None:
    histories = gather(rows)
    short = lists_in(histories.shorten(n, seed))
    for part, whole in zip(short, lists_in(histories), strict=True):
        assert part.items() <= whole.items()
        assert len(part) == min(n, len(whole))
    assert lists_in(histories.shorten(n, seed)) == short


def test_all_ratings_are_kept_with_the_same_probability() -> None:
    histories = histories_of({1: range(1, 11), 2: range(3, 6)}, n_users=3, n_items=11)
    left = torch.zeros(3, 11)
    for seed in range(2000):
        left += histories.shorten(2, seed).seen().to_dense()
    assert left[1, 1:] / 2000 == pytest.approx([0.2] * 10, abs=0.04)
    assert left[2, 3:6] / 2000 == pytest.approx([2 / 3] * 3, abs=0.05)
    assert left.sum() == 2 * 2 * 2000


def test_shorter_histories_are_subsets_of_longer_ones() -> None:
    """So histories of different sizes differ only in the number of ratings."""
    histories = random_histories(20, 30)
    shorter, longer = (lists_in(histories.shorten(n, seed=5)) for n in (2, 4))
    assert all(few.items() <= more.items() for few, more in zip(shorter, longer, strict=True))


@given(rows=ROWS)
def test_the_transpose_has_the_users_of_each_item(rows: Rows) -> None:
    histories, lists = gather(rows), slow_lists(rows)
    raters = histories.transpose()
    assert (len(raters), raters.n_items) == (N_ITEMS, N_USERS)
    of_items = [{user: stars[item] for user, stars in enumerate(lists) if item in stars} for item in range(N_ITEMS)]
    assert lists_in(raters) == of_items
    assert lists_in(raters.transpose()) == lists


@given(rows=ROWS)
def test_matrices_and_counts_match_the_lists(rows: Rows) -> None:
    histories, lists = gather(rows), slow_lists(rows)
    seen = [[float(item in stars) for item in range(N_ITEMS)] for stars in lists]
    assert histories.seen().to_dense().tolist() == histories.matrix().toarray().tolist() == seen
    assert histories.counts().tolist() == [0, *map(sum, zip(*(row[1:] for row in seen), strict=True))]
    assert histories.user_of_each().tolist() == [user for user, stars in enumerate(lists) for _ in stars]


def test_equal_keys_keep_the_order_of_rows() -> None:
    """There are more rows than the threshold below which all sorts are stable."""
    rows = planted.rows_of(torch.ones(5000).long(), torch.arange(5000) % 3, torch.arange(5000) % 5)
    histories = gather_histories(rows, Sizes(2, 3, LEVELS))
    assert histories.stars.tolist() == [LEVELS[last % 5] for last in (4998, 4999, 4997)]


def test_split_by_size_bounds_the_padded_size_of_a_block() -> None:
    sizes = torch.tensor([0, 1, 1, 1, 1, 1, 1, 3, 0, 9, 20, 50])
    blocks = [block.tolist() for block in split_by_size(sizes, limit=40, min_size=8)]
    assert blocks == [[1, 2, 3, 4, 5], [6, 7, 9], [10], [11]]  # 5 x 8, 3 x 9, 1 x 20, and one row above the limit
    assert [len(block) for block in split_by_size(sizes, limit=40)] == [7, 2, 1]
    assert not list(split_by_size(torch.zeros(3, dtype=torch.int64), limit=40))
