from collections.abc import Callable
from datetime import UTC, datetime

import polars as pl
import pytest
import torch
from torch import Tensor

from recsys.errors import DataRefused
from recsys.models import MODELS, Interactions, Network
from recsys.models.ordinal import OrdinalNetwork
from recsys.split.leaks import check_apart, check_order, find_leaks
from recsys.train.loop import fit_network
from tests.support.planted import FEATURES, LEVELS, SIZES, answer_all, concat, interactions, quick_config, ratings

Build = Callable[[pl.DataFrame], Network]


@pytest.fixture(scope="module")
def parts() -> tuple[pl.DataFrame, pl.DataFrame]:
    rated = ratings()
    return rated.head(900), rated.tail(300)


def answering(build: Build, name: str, train: pl.DataFrame) -> Callable[[pl.DataFrame], Tensor]:
    """Trains the network of `build`, which sees the holdout, and predicts every pair."""

    def answer(holdout: pl.DataFrame) -> Tensor:
        torch.manual_seed(0)
        network = build(holdout)
        fit_network(network, interactions(train), quick_config(name, epochs=1).training)
        return answer_all(network)

    return answer


@pytest.mark.parametrize("name", MODELS)
def test_no_network_learns_from_the_holdout(name: str, parts: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    train, holdout = parts
    config = quick_config(name, epochs=1)
    assert find_leaks(answering(lambda _: MODELS[name].build(config, SIZES, FEATURES), name, train), holdout) == []


def test_a_leak_through_the_history_is_found(parts: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    """Stars are not needed for a leak: the fact that a user rated a movie is information about both."""

    class Leaking(OrdinalNetwork):
        seen: Interactions

        def prepare(self, train: Interactions) -> Interactions:
            super().prepare(concat(train, self.seen))
            return train

    def build(holdout: pl.DataFrame) -> Network:
        network = Leaking(quick_config("ordinal"), SIZES)  # type: ignore[arg-type]
        network.seen = interactions(holdout)
        return network

    assert "which rows it has" in find_leaks(answering(build, "ordinal", parts[0]), parts[1])


def test_leaks_of_stars_and_times_are_found(parts: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    holdout = parts[1]
    for column, change in (("rating", "its stars"), ("rated_at", "its moments")):
        by_id = pl.col(column).sort_by("user_id", "movie_id")

        def answer(held: pl.DataFrame, values: pl.Expr = by_id) -> Tensor:
            return torch.from_numpy(held.select(values.cast(pl.Float64)).to_series().to_numpy().copy())

        found = find_leaks(answer, holdout)
        assert change in found
        assert "the order of its rows" not in found
    assert find_leaks(lambda held: torch.tensor(held["user_id"].to_list()), holdout) == [
        "which rows it has",
        "the order of its rows",
    ]


def test_parts_that_share_a_pair_are_refused(parts: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    train, holdout = parts
    check_apart(train, holdout)
    both = pl.concat([holdout, train.head(2)])
    user_id, movie_id = train.select("user_id", "movie_id").row(0)
    with pytest.raises(
        DataRefused, match=rf"2 of 302 rows of b are in a as well, e\.g\. user {user_id}, movie {movie_id}"
    ):
        check_apart(train, both, ("a", "b"))


def test_shared_pairs_are_found_even_with_other_stars(parts: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    train, holdout = parts
    again = train.head(1).with_columns(rating=pl.lit(LEVELS[0]), rated_at=holdout["rated_at"].max())
    with pytest.raises(DataRefused, match="1 of 1 rows of holdout are in train"):
        check_apart(train, again)


def test_training_rows_after_the_holdout_are_refused() -> None:
    moments = [datetime(2026, 1, day, tzinfo=UTC) for day in range(1, 6)]
    frame = pl.DataFrame({"rated_at": moments})
    check_order(frame[:3], frame[2:])  # equal times are not later
    with pytest.raises(
        DataRefused, match=r"1 of 3 rows of train were rated after 2026-01-02 .*Next: remove them from train"
    ):
        check_order(frame[:3], frame[1:])
