from dataclasses import replace

import polars as pl
import pytest

from recsys.evaluate.holdout import mean_error, measure_details, measure_errors, measure_lists
from recsys.evaluate.lists import ListQuality, gather_catalogue
from recsys.metrics.calibration import calibration_metrics, reliability
from recsys.metrics.errors import number_metrics, prediction_metrics
from recsys.metrics.lists import list_metrics, mean_metrics, user_metrics
from recsys.models import RatingNetwork
from recsys.models.baselines import fit_baselines
from recsys.rank.fit import fit_ranker
from recsys.rank.lists import list_alone, list_blocks, list_popular
from recsys.rank.place import rank_movies
from recsys.rank.ranker import Ranker
from recsys.settings import EaseConfig, RankConfig
from recsys.train.loop import predict
from tests.support.planted import FEATURES, fit, interactions, ratings
from tests.support.rankers import BLENDED, LEARNER, VOCABULARY

CONFIG = RankConfig(retrievers=("ease",), ease=EaseConfig(l2=20.0), relevant_from=4.0)


@pytest.fixture(scope="module")
def split() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Users from 51 on and movies from 36 on have no ratings in train."""
    rated = ratings()
    held_out = (pl.int_range(pl.len()) % 4 == 0) | (pl.col("user_id") > 50) | (pl.col("movie_id") > 35)
    return rated.filter(~held_out), rated.filter(held_out)


@pytest.fixture(scope="module")
def network(split: tuple[pl.DataFrame, pl.DataFrame]) -> RatingNetwork:
    return fit("ordinal", train=interactions(split[0]))[0]


def test_errors_are_those_of_the_network_and_of_every_baseline(
    split: tuple[pl.DataFrame, pl.DataFrame], network: RatingNetwork
) -> None:
    train, holdout = (interactions(part) for part in split)
    errors = measure_errors(network, train, holdout)
    prediction = predict(network, holdout)
    assert errors["network"] == {
        **prediction_metrics(prediction, holdout.level_idx, network.levels()),
        **calibration_metrics(prediction.p_BK, holdout.level_idx),
    }
    baselines = fit_baselines(train, network.sizes)
    assert list(errors) == ["network", *baselines] == ["network", "global_mean", "user_mean", "movie_mean", "bias"]
    stars = network.levels()[holdout.level_idx]
    for name, baseline in baselines.items():
        stars_hat = baseline(holdout.user_idx, holdout.item_idx)
        assert errors[name] == number_metrics(stars_hat, stars, network.levels())


def test_details_are_slices_and_the_reliability_table(
    split: tuple[pl.DataFrame, pl.DataFrame], network: RatingNetwork
) -> None:
    train, holdout = (interactions(part) for part in split)
    details = measure_details(network, train, holdout, FEATURES)
    bins = reliability(predict(network, holdout).p_BK, holdout.level_idx)
    table = {name: figures for name, figures in details.items() if name.startswith("predicted=")}
    assert len(table) == len(bins) > 5
    assert next(iter(table)) == "predicted=0-0.1"
    assert list(table.values()) == [{"n": one.n, "predicted": one.predicted, "observed": one.observed} for one in bins]
    assert sum(figures["n"] for figures in table.values()) == 4 * len(holdout)  # every level except the highest
    assert {"new_user", "new_movie", "rating=4"} < details.keys()
    assert any(name.startswith("genre=") for name in details)


def test_the_mean_of_a_networks_own_errors(network: RatingNetwork, split: tuple[pl.DataFrame, pl.DataFrame],
                                           monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    holdout = interactions(split[1])
    expected = measure_errors(network, interactions(split[0]), holdout)["network"]["mae_median"]
    assert mean_error(network.train(), holdout) == pytest.approx(expected)
    monkeypatch.setattr("recsys.evaluate.holdout.ROWS_PER_PREDICTION", 37)
    assert mean_error(network, holdout) == pytest.approx(expected)


@pytest.fixture(scope="module")
def ranker(split: tuple[pl.DataFrame, pl.DataFrame], network: RatingNetwork) -> Ranker:
    return fit_ranker(network, interactions(split[0]), LEARNER, CONFIG, BLENDED)


def measure(ranker: Ranker, train: pl.DataFrame, holdout: pl.DataFrame, n: int = 10) -> ListQuality:
    return measure_lists(ranker, interactions(train), holdout, LEARNER, n)


def test_lists_are_measured_for_known_users_and_relevant_movies(
    split: tuple[pl.DataFrame, pl.DataFrame], ranker: Ranker
) -> None:
    train, holdout = split
    quality = measure(ranker, train, holdout)
    measured, slices = quality.metrics, quality.slices
    liked = holdout.filter((pl.col("rating") >= 4) & (pl.col("user_id") <= 50)).select("user_id", "movie_id")
    lists = {
        "network": pl.concat(list_blocks(rank_movies(ranker, 50), VOCABULARY)),
        "ease": list_alone(ranker, "ease", 50, VOCABULARY),
        "popularity": list_popular(ranker.histories, 50, VOCABULARY),
    }
    catalogue = gather_catalogue(interactions(train), VOCABULARY, FEATURES, ranker.listable)
    assert (len(catalogue.movies), catalogue.n_users) == (40, 50)  # five movies have no ratings in train
    assert measured.keys() == lists.keys()
    for name, every_list in lists.items():
        frame = every_list.filter(pl.col("user_id") <= 50)
        expected = list_metrics(user_metrics(frame, liked), frame, catalogue)
        assert {key: measured[name][key] for key in expected} == expected
    assert {"user_activity=1-20", "gender=F"} < slices.keys()
    assert measured["network"]["users_with_relevant"] == liked["user_id"].n_unique() <= 50


@pytest.mark.parametrize(("diversity", "n"), [(0.0, 10), (0.6, 10), (0.6, 20)])
def test_the_measured_lists_start_with_the_served_ones(
    split: tuple[pl.DataFrame, pl.DataFrame], ranker: Ranker, diversity: float, n: int
) -> None:
    """With diversity, the first ten of a list of fifty differ from a list of ten."""
    train, holdout = split
    ranker = replace(ranker, config=CONFIG.model_copy(update={"diversity": diversity}))
    liked = holdout.filter((pl.col("rating") >= 4) & (pl.col("user_id") <= 50)).select("user_id", "movie_id")
    catalogue = gather_catalogue(interactions(train), VOCABULARY, FEATURES, ranker.listable)
    measured = measure(ranker, train, holdout, n).metrics["network"]

    def expected(length: int) -> dict[str, float]:
        lists = pl.concat(list_blocks(rank_movies(ranker, length), VOCABULARY)).filter(pl.col("user_id") <= 50)
        return list_metrics(user_metrics(lists, liked), lists, catalogue)

    first = {name: value for name, value in expected(n).items() if name.endswith("_10")}
    assert {name: measured[name] for name in first} == first
    assert measured["recall_at_50"] == expected(50)["recall_at_50"]


def test_relevant_is_a_setting(split: tuple[pl.DataFrame, pl.DataFrame], ranker: Ranker) -> None:
    train, holdout = split
    users = {
        stars: measure(
            replace(ranker, config=CONFIG.model_copy(update={"relevant_from": stars})), train, holdout
        ).metrics["network"]["users_with_relevant"]
        for stars in (1.0, 5.0)
    }
    assert users[5.0] < users[1.0] == holdout.filter(pl.col("user_id") <= 50)["user_id"].n_unique()


def test_a_pair_held_out_twice_is_one_relevant_movie(split: tuple[pl.DataFrame, pl.DataFrame], ranker: Ranker) -> None:
    train, holdout = split
    once = measure(ranker, train, holdout)
    assert measure(ranker, train, pl.concat([holdout, holdout])) == once


def test_the_least_popular_movies_are_the_worst_list(split: tuple[pl.DataFrame, pl.DataFrame], ranker: Ranker) -> None:
    """This shows that higher values mean better lists."""
    train, holdout = split
    measured = measure(ranker, train, holdout).metrics
    worst = list_popular(ranker.histories, 40, VOCABULARY).with_columns(
        rank=pl.col("rank").rank("ordinal", descending=True).over("user_id").cast(pl.Int32)
    )
    liked = holdout.filter((pl.col("rating") >= 4) & (pl.col("user_id") <= 50)).select("user_id", "movie_id")
    least = mean_metrics(user_metrics(worst, liked))["ndcg_at_10"]
    assert least < 0.8 * min(measured["popularity"]["ndcg_at_10"], measured["network"]["ndcg_at_10"])


def test_a_holdout_without_relevant_ratings_has_errors_and_no_list_quality(
    split: tuple[pl.DataFrame, pl.DataFrame], ranker: Ranker
) -> None:
    train, holdout = split
    disliked = holdout.filter(pl.col("rating") < 4)
    measured = measure(ranker, train, disliked).metrics
    of_the_catalogue = {"coverage_at_10", "gini_at_10", "novelty_at_10", "diversity_at_10"}
    assert measured["network"].keys() == {*of_the_catalogue, "users_with_relevant", "users_without_relevant"}
    assert measured["network"]["users_with_relevant"] == 0
    assert measure_errors(ranker.network, interactions(train), interactions(disliked))["network"]["mae_median"] > 0
