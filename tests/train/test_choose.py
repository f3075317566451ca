from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from recsys.encode.vocabulary import fit_vocabulary
from recsys.errors import UsageError
from recsys.evaluate.holdout import measure_errors
from recsys.ingest.synthetic.synthetic import plant
from recsys.metrics.errors import prediction_metrics
from recsys.models import MODELS
from recsys.models.ordinal import OrdinalConfig, ordinal
from recsys.settings import CANDIDATES, TunedConfig
from recsys.split.cut import split_validation
from recsys.train.choose import Choice, Learner, choose, learn, learn_any
from recsys.train.loop import predict
from tests.support.planted import LEVELS, RATERS, predict_all, quick_config, ratings, same_weights


@pytest.fixture(scope="module")
def split() -> tuple[pl.DataFrame, pl.DataFrame]:
    return split_validation(ratings(), 0.2, seed=0)


@pytest.fixture(scope="module")
def learner() -> Learner:
    return Learner(fit_vocabulary(ratings()), LEVELS, seed=0, device="cpu")


def test_ratings_become_indices() -> None:
    rated = pl.DataFrame(
        {"user_id": [30, 10, 99], "movie_id": [7, 8, 5], "rating": [0.5, 3.5, 5.0]},
        schema={"user_id": pl.Int32, "movie_id": pl.Int32, "rating": pl.Float32},
    )
    vocabulary = fit_vocabulary(rated.head(2))
    encoded = Learner(vocabulary, tuple(half / 2 for half in range(1, 11)), 0, "cpu").encode(rated)
    assert encoded.user_idx.tolist() == [2, 1, 0]
    assert encoded.item_idx.tolist() == [1, 2, 0]
    assert encoded.level_idx.tolist() == [0, 6, 9]
    assert {encoded.user_idx.dtype, encoded.item_idx.dtype, encoded.level_idx.dtype} == {torch.int64}


def test_every_level_is_its_own_index() -> None:
    """Whatever their values: levels are compared in the ratings' own precision."""
    levels = (0.1, 0.7, 1.3)
    rated = pl.DataFrame({"user_id": [1, 2, 3], "movie_id": [1, 1, 1], "rating": pl.Series(levels, dtype=pl.Float32)})
    assert Learner(fit_vocabulary(rated), levels, 0, "cpu").encode(rated).level_idx.tolist() == [0, 1, 2]


def test_auto_takes_the_least_mae_on_validation(split: tuple[pl.DataFrame, pl.DataFrame], learner: Learner) -> None:
    choice = choose("auto", *split, learner)
    assert tuple(choice.tried) == CANDIDATES
    assert choice.model == min(choice.tried, key=lambda name: choice.tried[name]["mae_median"])
    for name, metrics in choice.tried.items():
        alone = choose(name, *split, learner)
        assert alone.model == name
        assert without_time(alone.tried[name]) == without_time(metrics)
        assert alone.config == MODELS[name].configure(len(split[0]), len(LEVELS))


def without_time(metrics: dict[str, float]) -> dict[str, float]:
    assert metrics["training_seconds"] > 0
    return {name: value for name, value in metrics.items() if name != "training_seconds"}


def test_candidates_are_a_setting(split: tuple[pl.DataFrame, pl.DataFrame], learner: Learner) -> None:
    assert list(choose("auto", *split, learner, candidates=["softmax"]).tried) == ["softmax"]


def test_a_tuned_config_takes_the_place_of_both(split: tuple[pl.DataFrame, pl.DataFrame], learner: Learner) -> None:
    config = MODELS["softmax"].configure(1000, 5).model_copy(update={"embedding_dim": 3})
    tuned = TunedConfig(model="softmax", config=config.model_dump(mode="json"))
    for model in ("auto", "softmax"):
        choice = choose(model, *split, learner, tuned=tuned)
        assert (choice.model, choice.config) == ("softmax", config)
    with pytest.raises(UsageError, match="the config given is of softmax, the model asked for is ordinal"):
        choose("ordinal", *split, learner, tuned=tuned)


def test_a_config_of_something_else_is_refused(split: tuple[pl.DataFrame, pl.DataFrame], learner: Learner) -> None:
    config = MODELS["softmax"].configure(1000, 5).model_dump(mode="json")
    for wrong, told in (({"dropout": 2}, "dropout: Input should be less"), ({"depth": 2}, "depth: Extra inputs are")):
        tuned = TunedConfig(model="softmax", config=config | wrong)
        with pytest.raises(UsageError, match=f"this is no config of softmax: {told}"):
            choose("auto", *split, learner, tuned=tuned)


@pytest.mark.parametrize("name", RATERS)
def test_learning_the_chosen_epochs_again_gives_the_chosen_figures(
    name: str, split: tuple[pl.DataFrame, pl.DataFrame], learner: Learner
) -> None:
    train, validation = split
    choice = choose(name, train, validation, learner)
    network = learn(choice, train, learner, label="again")
    rows = learner.encode(validation)
    assert prediction_metrics(predict(network, rows), rows.level_idx, network.levels()) == without_time(
        choice.tried[name]
    )


@pytest.mark.parametrize("name", MODELS)
def test_every_draw_comes_from_the_seed(name: str, split: tuple[pl.DataFrame, pl.DataFrame], learner: Learner) -> None:
    """What was drawn before does not matter, and what is drawn after goes on as if nothing had happened."""
    config = quick_config(name, epochs=1)
    choice = Choice(name, config, 1, tried={})
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = learn_any(choice, split[0], learner, label="first")
    assert torch.equal(torch.rand(3), expected)
    assert same_weights(first, learn_any(choice, split[0], learner, label="second"))
    assert not same_weights(first, learn_any(choice, split[0], replace(learner, seed=1), label="third"))


def test_the_holdout_is_not_known(split: tuple[pl.DataFrame, pl.DataFrame], learner: Learner) -> None:
    """An id whose ratings are all held out stands in the vocabulary and is predicted like the unknown."""
    known = split[0].filter(pl.col("user_id") != 7)
    choice = choose("ordinal", known, split[1], learner)
    p_UIK = predict_all(learn(choice, known, learner, label="test")).view(61, 41, -1)
    assert torch.equal(p_UIK[7], p_UIK[0])
    assert not torch.equal(p_UIK[8], p_UIK[0])


def test_sizes_count_the_unknown() -> None:
    vocabulary = fit_vocabulary(pl.DataFrame({"user_id": [5, 6, 7], "movie_id": [1, 2, 2]}))
    sizes = Learner(vocabulary, (1.0, 2.0), 0, "cpu").sizes()
    assert (sizes.n_users, sizes.n_items, sizes.levels) == (4, 3, (1.0, 2.0))


def measure(config: OrdinalConfig, known: pl.DataFrame, asked: pl.DataFrame, learner: Learner) -> dict[str, float]:
    """Errors on `asked` of the ordinal network, trained on `known` with these settings."""
    network = learn(Choice("ordinal", config, config.training.epochs, tried={}), known, learner, label="planted")
    rows = learner.encode(asked)
    return prediction_metrics(predict(network, rows), rows.level_idx, network.levels())


@pytest.mark.slow
def test_the_ordinal_network_comes_within_5_percent_of_the_best_possible() -> None:
    """With size and penalty chosen on validation: planted tastes are stronger than MovieLens's, which ours are for."""
    planted = plant(1000, 400, 120_000, rank=2, noise=1.0)
    known, holdout = split_validation(planted.ratings, 0.1, seed=0)
    train, validation = split_validation(known, 0.1, seed=1)
    learner = Learner(fit_vocabulary(planted.ratings), LEVELS, seed=0, device="cpu")
    shipped = ordinal(len(train), 5)
    tried = [
        shipped.model_copy(update={"embedding_dim": dim, "l2": l2, "l2_thresholds": 0.3 * l2})
        for dim, l2 in ((3, 0.1), (shipped.embedding_dim, shipped.l2))
    ]
    chosen = min(tried, key=lambda config: measure(config, train, validation, learner)["log_loss"])
    metrics = measure(chosen, known, holdout, learner)
    users, movies = (holdout[name].to_numpy().astype(np.int64) for name in ("user_id", "movie_id"))
    # below the best would be as wrong as far above it: the holdout would have been seen
    assert 0.98 < metrics["mae_median"] / planted.best_mae_median(users, movies) < 1.05
    assert 0.98 < metrics["rmse_mean"] / planted.best_rmse_mean(users, movies) < 1.05


@pytest.mark.slow
def test_as_shipped_it_finds_more_than_biases() -> None:
    planted = plant(600, 300, 60_000, noise=1.0)
    train, holdout = split_validation(planted.ratings, 0.1, seed=0)
    learner = Learner(fit_vocabulary(planted.ratings), LEVELS, seed=0, device="cpu")
    config = ordinal(len(train), 5)
    network = learn(Choice("ordinal", config, config.training.epochs, tried={}), train, learner, label="planted")
    errors = measure_errors(network, learner.encode(train), learner.encode(holdout))
    for metric in ("rmse_mean", "mae_mean", "mae_rounded"):
        assert errors["network"][metric] < 0.97 * errors["bias"][metric]
