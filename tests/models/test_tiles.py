"""Blocks, tiles and layouts, against slow implementations on random ratings."""

import pytest
import torch
from torch import Tensor

from recsys.models.history import History
from recsys.models.network import Interactions, Sizes
from recsys.models.tiles import Layout, Side, Tile, Tiles, deal, invert

N_USERS, N_ITEMS, N_BLOCKS = 23, 17, 4
SIZES = Sizes(N_USERS, N_ITEMS, (1.0, 2.0, 3.0))


def draw() -> Interactions:
    """150 ratings of distinct pairs. User 0, the unknown, and item 5 have none."""
    generator = torch.Generator().manual_seed(3)
    pairs = torch.cartesian_prod(torch.arange(1, N_USERS), torch.arange(N_ITEMS))
    pairs = pairs[pairs[:, 1] != 5]
    user_idx, item_idx = pairs[torch.randperm(len(pairs), generator=generator)[:150]].T
    return Interactions(user_idx, item_idx, torch.arange(150), torch.arange(150) % 3)


TRAIN = draw()
HISTORY = History(TRAIN, SIZES)
OPINION = HISTORY.opinion_N


@pytest.fixture
def tiles() -> Tiles:
    return Tiles(HISTORY, N_BLOCKS, torch.Generator().manual_seed(0))


def matrix(values: Tensor) -> Tensor:
    """(U, I): the ratings as a dense matrix."""
    return torch.zeros(N_USERS, N_ITEMS).index_put((TRAIN.user_idx, TRAIN.item_idx), values)


@pytest.mark.parametrize("n_ids", [1, 3, 4, 23, 1000])
def test_every_id_is_dealt_to_one_block_of_nearly_equal_size(n_ids: int) -> None:
    blocks = deal(torch.arange(n_ids), N_BLOCKS, torch.Generator().manual_seed(0))
    assert sorted(blocks.order.tolist()) == list(range(n_ids))
    assert torch.equal(invert(blocks.order), blocks.place)
    sizes = torch.tensor(blocks.starts).diff()
    assert sizes.max() - sizes.min() <= 1
    for block in range(N_BLOCKS):
        ids = blocks.order[blocks.rows(block)]
        assert (blocks.block[ids] == block).all()
        assert blocks.within[ids].tolist() == list(range(len(ids)))
        assert (ids.diff() > 0).all()


def test_blocks_have_nearly_equal_numbers_of_ratings() -> None:
    """Of each four ids with neighbouring numbers of ratings, each block gets one."""
    counts = (torch.arange(1000).float() ** 2).long()
    blocks = deal(counts, N_BLOCKS, torch.Generator().manual_seed(0))
    of_blocks = torch.stack([counts[blocks.order[blocks.rows(block)]].sum() for block in range(N_BLOCKS)])
    assert of_blocks.max() < 1.02 * of_blocks.min()


def test_the_deal_depends_on_the_generator_only() -> None:
    first, second, third = (deal(torch.ones(50).long(), 4, torch.Generator().manual_seed(s)).order for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_an_epoch_visits_every_tile_once_and_a_sweep_every_block_once(tiles: Tiles) -> None:
    sweeps = list(tiles.sweeps(torch.Generator().manual_seed(0)))
    assert len(sweeps) == N_BLOCKS
    for sweep in sweeps:
        assert sorted(tile.user_block for tile in sweep) == list(range(N_BLOCKS))
        assert sorted(tile.item_block for tile in sweep) == list(range(N_BLOCKS))
    assert len({(tile.user_block, tile.item_block) for sweep in sweeps for tile in sweep}) == N_BLOCKS**2
    ratings = torch.cat([tiles.order_N[tile.ratings] for sweep in sweeps for tile in sweep])
    assert sorted(ratings.tolist()) == list(range(len(TRAIN)))


def test_a_tile_has_the_ratings_of_its_blocks(tiles: Tiles) -> None:
    users, items = tiles.users.blocks, tiles.items.blocks
    for tile in (tile for sweep in tiles.sweeps(torch.Generator()) for tile in sweep):
        ratings = tiles.order_N[tile.ratings]
        assert torch.equal(
            users.order[users.starts[tile.user_block] + tiles.user_N[tile.ratings]], TRAIN.user_idx[ratings]
        )
        assert torch.equal(
            items.order[items.starts[tile.item_block] + tiles.item_N[tile.ratings]], TRAIN.item_idx[ratings]
        )
        assert torch.equal(tiles.level_N[tile.ratings], TRAIN.level_idx[ratings])
        assert torch.equal(tiles.opinion_N1[tile.ratings, 0], OPINION[ratings])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("of_users", [True, False])
def test_sums_against_matrices(tiles: Tiles, of_users: bool, weighted: bool) -> None:
    """Over all ratings of a block's ids, and over the ratings of all ids with a block of the other side."""
    side, other = (tiles.users, tiles.items) if of_users else (tiles.items, tiles.users)
    ratings = matrix(OPINION if weighted else torch.ones(len(TRAIN)))
    ratings = (ratings if of_users else ratings.T)[side.blocks.order][:, other.blocks.order]
    vectors = torch.rand(ratings.shape[1], 3)
    for block in range(N_BLOCKS):
        rows, columns = side.blocks.rows(block), other.blocks.rows(block)
        torch.testing.assert_close(side.history(block).sum(vectors, weighted=weighted), ratings[rows] @ vectors)
        torch.testing.assert_close(
            side.across(block).sum(vectors[columns], weighted=weighted), ratings[:, columns] @ vectors[columns]
        )


@pytest.mark.parametrize("of_users", [True, False])
def test_counts_of_ratings(tiles: Tiles, of_users: bool) -> None:
    side: Side = tiles.users if of_users else tiles.items
    other = tiles.items if of_users else tiles.users
    ratings = matrix(torch.ones(len(TRAIN)))
    ratings = (ratings if of_users else ratings.T)[side.blocks.order][:, other.blocks.order]
    assert torch.equal(side.counts_R1[:, 0], ratings.sum(1))
    torch.testing.assert_close(side.scale_R1[:, 0], ratings.sum(1).clamp(min=1) ** -0.5)
    for block in range(N_BLOCKS):
        for there in range(N_BLOCKS):
            expected = ratings[side.blocks.rows(block), other.blocks.rows(there)].sum(1)
            assert torch.equal(side.counts(block, there)[:, 0], expected)


def test_parts_of_a_tile() -> None:
    assert list(Tile(0, 0, slice(5, 12)).parts(3)) == [slice(5, 8), slice(8, 11), slice(11, 12)]
    assert list(Tile(0, 0, slice(5, 5)).parts(3)) == []


def test_the_layout_of_a_table_whose_rows_belong_to_users(tiles: Tiles) -> None:
    users = tiles.users.blocks
    owners = torch.tensor([0, 1, 1, 1, 4, 7, 7, 22])
    layout = Layout.of_owners(owners, users)
    assert layout.edges is not None
    rows = torch.arange(len(owners))
    block = users.block[owners].int()
    within = layout.within(rows, block)
    for row in rows.tolist():
        part = layout.rows(Tile(int(block[row]), 0, slice(0, 0)))
        assert layout.order[part][within[row]] == row
        assert layout.sizes(block)[row] == part.stop - part.start
    assert layout.edges[-1] == len(owners)
