"""Warm starts: training that starts from the weights of another network, matched by id."""

import logging
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from recsys.encode.features import fit_features
from recsys.encode.vocabulary import fit_vocabulary
from recsys.errors import ModelError
from recsys.ingest.synthetic.synthetic import plant
from recsys.models import MODELS, NetworkConfig, TrainingConfig
from recsys.models.ordinal import OrdinalConfig, OrdinalNetwork
from recsys.models.softmax import SoftmaxNetwork
from recsys.settings import WarmStartConfig
from recsys.split.cut import split_validation
from recsys.train.learn import Choice, Learner, fit_seeded, learn, learn_any
from recsys.train.loop import Epoch, best_epoch
from recsys.train.warm_start import Champion, check_alike, shorten, warm_start
from tests.support.planted import CLASSES, LEVELS, change, quick_config, same_weights

PLANTED = plant(60, 40, 1500)
RUN = "20261121T030000Z"


def of(users: range, movies: range) -> pl.DataFrame:
    """The planted ratings of these users and movies."""
    return PLANTED.ratings.filter(pl.col("user_id").is_in([*users]) & pl.col("movie_id").is_in([*movies]))


LAST_NIGHT = of(range(1, 41), range(1, 31))
TONIGHT = of(range(11, 61), range(6, 41))  # some ids are gone, some are new, and all indices differ


def learner_of(ratings: pl.DataFrame, users: pl.DataFrame = PLANTED.users, **fields: Any) -> Learner:
    vocabulary = fit_vocabulary(ratings)
    features = fit_features(vocabulary, users, PLANTED.movies)
    return replace(Learner(vocabulary, LEVELS, seed=0, device="cpu", features=features), **fields)


@cache
def champion_of(
    name: str, config: NetworkConfig | None = None, schedule: WarmStartConfig | None = None, seed: int = 9
) -> Champion:
    learner = learner_of(LAST_NIGHT, seed=seed)
    config = config or quick_config(name)
    network, _ = fit_seeded(name, config, learner.encode(LAST_NIGHT), learner)
    return Champion(RUN, name, config, network, learner.vocabulary, schedule or WarmStartConfig())


def started(
    name: str, champion: Champion, ratings: pl.DataFrame = TONIGHT, config: NetworkConfig | None = None
) -> tuple[Any, Any]:
    """A network prepared for tonight, and one with a warm start. Neither has taken a step."""
    learner = learner_of(TONIGHT)
    rows = learner.encode(ratings)
    networks = []
    for _ in range(2):
        torch.manual_seed(0)
        networks.append(MODELS[name].build(config or quick_config(name), learner.sizes(), learner.features))
        networks[-1].prepare(rows)
    warm_start(networks[1], rows, learner.vocabulary, champion)
    return networks[0], networks[1]


def test_rows_are_copied_by_id() -> None:
    champion = champion_of("ordinal")
    fresh, warm = started("ordinal", champion)
    assert isinstance(champion.network, OrdinalNetwork)
    theirs = champion.network
    for user_id in (11, 25, 40):  # in tonight's vocabulary, user 11 has the first index
        assert torch.equal(warm.user[user_id - 10], theirs.user[user_id])
        assert torch.equal(warm.user_thresholds[user_id - 10], theirs.user_thresholds[user_id])
    for movie_id in (6, 30):
        assert torch.equal(warm.item_implicit[movie_id - 5], theirs.item_implicit[movie_id])
    assert torch.equal(warm.thresholds, theirs.thresholds)
    assert not torch.equal(fresh.thresholds, theirs.thresholds)


def test_new_ids_start_at_the_mean_of_the_copied_rows() -> None:
    _, warm = started("ordinal", champion_of("ordinal"))
    for user_id in (41, 60):
        torch.testing.assert_close(warm.user[user_id - 10], warm.user[1:31].mean(0))
    torch.testing.assert_close(warm.item[40 - 5], warm.item[1:26].mean(0))


def test_ids_without_ratings_stay_like_the_unknown_id() -> None:
    """This holds for ids that the champion knows and for others. The vocabulary may exceed the training part."""
    without = TONIGHT.filter(~pl.col("user_id").is_in([20, 50]))
    fresh, warm = started("ordinal", champion_of("ordinal"), without)
    for user_id in (20, 50):
        assert not warm.user[user_id - 10].any()
        assert torch.equal(warm.user[user_id - 10], fresh.user[user_id - 10])
    assert torch.equal(warm.user[0], fresh.user[0])


def test_days_and_moods_are_copied_by_user_and_day() -> None:
    config = change(quick_config("ordinal"), min_ratings_per_day=1)
    champion = champion_of("ordinal", config)
    _, warm = started("ordinal", champion, config=config)
    theirs: Any = champion.network
    mine = {(int(key >> 20) + 10, int(key & 0xFFFFF)): row for row, key in enumerate(warm.moments.days.keys) if row}
    there = {(int(key >> 20), int(key & 0xFFFFF)): row for row, key in enumerate(theirs.moments.days.keys) if row}
    assert mine.keys() & there.keys()  # (user_id, day)
    for key, row in mine.items():
        assert warm.moments.days.bias[row] == (theirs.moments.days.bias[there[key]] if key in there else 0.0)
    knot_of_20, knot_there = int(warm.moments.mood.first_knot[20 - 10]), int(theirs.moments.mood.first_knot[20])
    assert torch.equal(warm.moments.mood.knots[knot_of_20], theirs.moments.mood.knots[knot_there])


def test_averages_of_batch_norm_are_copied() -> None:
    champion = champion_of("softmax")
    fresh, warm = started("softmax", champion)
    assert isinstance(champion.network, SoftmaxNetwork)
    theirs = champion.network.state_dict()
    averages = [name for name in theirs if "running_" in name]
    assert averages
    for name in averages:
        assert torch.equal(warm.state_dict()[name], theirs[name])
        assert not torch.equal(fresh.state_dict()[name], theirs[name])


def test_values_of_features_are_copied_by_name() -> None:
    """The champion's movies have fewer years than tonight's, so the same year has another index."""
    champion = champion_of("hybrid")
    fresh, warm = started("hybrid", champion)
    here = ["", *learner_of(TONIGHT).features.item["year"].names]
    there = ["", *learner_of(LAST_NIGHT).features.item["year"].names]
    moved = [year for year in here if year in there and here.index(year) != there.index(year)]
    assert moved
    there_network: Any = champion.network
    ours, theirs = (network.item.features["year"].weight for network in (warm, there_network))
    for year in moved:
        assert torch.equal(ours[here.index(year)], theirs[there.index(year)])
    new = next(year for year in here if year not in there)
    assert torch.equal(ours[here.index(new)], fresh.item.features["year"].weight[here.index(new)])


def test_weights_of_another_size_start_from_scratch_and_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    champion = champion_of("softmax", change(quick_config("softmax"), hidden_dim=16))
    with caplog.at_level(logging.INFO, logger="recsys.train.warm_start"):
        fresh, warm = started("softmax", champion)
    assert torch.equal(warm.head[0].weight, fresh.head[0].weight)
    assert not torch.equal(warm.user_embedding.weight, fresh.user_embedding.weight)
    (line,) = (record.getMessage() for record in caplog.records if record.name == "recsys.train.warm_start")
    assert line.startswith(
        f"warm start from run {RUN}, whose network has 30 of 50 users and 25 of 35 movies; missing or different there, "
        "so trained from scratch: head.0.weight, head.0.bias, "
    )


@pytest.mark.parametrize("name", CLASSES)
def test_with_the_same_ids_the_warm_network_scores_like_the_champion(name: str) -> None:
    """The scores are compared before the first step, for every kind of table."""
    learner = learner_of(TONIGHT)
    rows, config = learner.encode(TONIGHT), quick_config(name, epochs=1)
    network, _ = fit_seeded(name, config, rows, learner)
    champion = Champion(RUN, name, config, network, learner.vocabulary, WarmStartConfig())
    torch.manual_seed(1)
    warm = MODELS[name].build(config, learner.sizes(), learner.features)
    warm.prepare(rows)
    warm_start(warm, rows, learner.vocabulary, champion)
    warm.eval().freeze()
    with torch.no_grad():
        assert torch.equal(warm.score(rows), network.score(rows))


@pytest.mark.parametrize("users", [PLANTED.users, PLANTED.users.clear()], ids=["added", "removed"])
@pytest.mark.parametrize("name", ["ordinal", "hybrid", "wide_deep"])  # the networks with features
def test_a_users_table_may_be_added_or_removed(name: str, users: pl.DataFrame) -> None:
    """Weights for features of users then start from scratch. All others are copied."""
    there = learner_of(LAST_NIGHT, PLANTED.users.clear() if len(users) else PLANTED.users)
    config = quick_config(name)
    network, _ = fit_seeded(name, config, there.encode(LAST_NIGHT), there, stop_after=1)
    champion = Champion(RUN, name, config, network, there.vocabulary, WarmStartConfig())
    learner = learner_of(TONIGHT, users)
    network, epochs = fit_seeded(name, config, learner.encode(TONIGHT), learner, champion=champion)
    assert len(epochs) < config.training.epochs


def test_crossed_tables_are_copied_only_if_their_columns_mean_the_same() -> None:
    """If one genre is removed and another added, the table has the same size but other columns."""
    champion = champion_of("wide_deep", seed=10)  # not shared with other tests, since it is changed below
    fresh, warm = started("wide_deep", champion)
    assert torch.equal(warm.item_wide.weight[6 - 5], champion.network.item_wide.weight[6])  # type: ignore[union-attr, index]
    names = champion.network.column_names()  # type: ignore[operator]
    champion.network.column_names = lambda: names | {"item_wide.weight": names["item_wide.weight"][::-1]}  # type: ignore[assignment]
    _, warm = started("wide_deep", champion)
    assert torch.equal(warm.item_wide.weight, fresh.item_wide.weight)
    assert torch.equal(warm.item.weight[6 - 5], champion.network.item.weight[6])  # type: ignore[union-attr, index]


def test_without_common_ids_tables_start_from_scratch() -> None:
    champion = champion_of("nmf")
    strangers = fit_vocabulary(pl.DataFrame({"user_id": [901, 902], "movie_id": [801, 802]}))
    fresh, warm = started("nmf", replace(champion, vocabulary=strangers, network=sized(champion, strangers)))
    assert torch.equal(warm.user.weight[1:], fresh.user.weight[1:])
    assert torch.equal(warm.item.weight[1:], fresh.item.weight[1:])


def sized(champion: Champion, vocabulary: Any) -> Any:
    learner = Learner(vocabulary, LEVELS, 0, "cpu")
    return MODELS[champion.model].build(champion.config, learner.sizes(), learner.features)


def test_a_different_network_is_refused() -> None:
    champion = champion_of("softmax")
    with pytest.raises(
        ModelError, match=rf"no warm start from run {RUN}, .*: softmax was trained then and nmf is .*\. Next: train"
    ):
        check_alike("nmf", quick_config("nmf"), champion)
    wider = change(quick_config("softmax"), hidden_dim=64, dropout=0.1)
    with pytest.raises(ModelError, match=r"is different: hidden_dim was 128 and is now 64\. Next"):
        check_alike("softmax", wider, champion)
    check_alike("softmax", change(quick_config("softmax", epochs=9), dropout=0.1), champion)


def test_a_network_with_another_part_is_refused() -> None:
    champion = champion_of("ordinal_basic")
    config = quick_config("ordinal_basic")
    assert isinstance(config, OrdinalConfig)
    check_alike("ordinal_basic", change(config, l2=2 * config.l2), champion)
    with pytest.raises(ModelError, match="l2_days was None and is now a number"):
        check_alike("ordinal_basic", change(config, l2_days=0.1), champion)


def test_warm_training_has_fewer_epochs_and_a_lower_rate() -> None:
    training = TrainingConfig(epochs=20, batch_size=10, learning_rate=0.5, schedule="one_cycle", clip_norm=3.0)
    shorter = shorten(training, 14, WarmStartConfig(epoch_share=0.3, learning_rate_share=0.1))
    assert shorter == training.model_copy(update={"epochs": 4, "learning_rate": 0.05})
    assert shorten(training, 1, WarmStartConfig()).epochs == 1


def test_both_shares_change_the_result() -> None:
    choice = Choice("softmax", quick_config("softmax"), 6, tried={})

    def train(**shares: float) -> Any:
        champion = champion_of("softmax", schedule=WarmStartConfig(**shares))
        return learn(choice, TONIGHT, learner_of(TONIGHT), "test", champion=champion)

    base = train(epoch_share=0.3, learning_rate_share=0.3)
    assert same_weights(base, train(epoch_share=0.3, learning_rate_share=0.3))
    assert not same_weights(base, train(epoch_share=0.5, learning_rate_share=0.3))
    assert not same_weights(base, train(epoch_share=0.3, learning_rate_share=0.5))


def test_learning_from_a_different_network_is_refused() -> None:
    with pytest.raises(ModelError, match="nmf was trained then and softmax is trained now"):
        learn_any(
            Choice("softmax", quick_config("softmax"), 1, tried={}),
            TONIGHT,
            learner_of(TONIGHT),
            "test",
            champion=champion_of("nmf"),
        )


def test_the_checkpoint_name_depends_on_the_champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the same warm start resumes from a checkpoint."""
    opened = []
    monkeypatch.setattr(
        "recsys.train.learn.open_checkpoint", lambda folder, *shaping, keep: opened.append(digest(*shaping))
    )
    learner = learner_of(TONIGHT)
    rows, config = learner.encode(TONIGHT), quick_config("nmf", epochs=1)
    slower = WarmStartConfig(learning_rate_share=0.1)
    champions = (None, champion_of("nmf"), champion_of("nmf", seed=4), champion_of("nmf", schedule=slower))
    again = champion_of.__wrapped__("nmf")
    opened.clear()  # forgets the checkpoints of training the champions
    for champion in (*champions, again):
        fit_seeded("nmf", config, rows, learner, champion=champion)
    assert len(set(opened)) == 4
    assert opened[1] == opened[4]


def digest(shaping: dict[str, Any], data: list[Tensor]) -> str:
    return repr(shaping) + repr([column.double().sum().item() for column in data])


def epochs_to_reach(error: float, epochs: list[Epoch]) -> int:
    return next((epoch.number for epoch in epochs if (epoch.validation_error or 9.0) <= error), 10**6)


@pytest.mark.parametrize("name", ["dot_bias_one_cycle", "nmf"])
def test_a_warm_start_reaches_the_cold_error_in_a_third_of_the_epochs(name: str) -> None:
    """The newest 1% of the ratings are new to the champion.

    The error is squared, because it varies less by chance than the MAE of 600 medians. docs/experiments.md has the
    figures of `ordinal` on MovieLens.
    """
    planted = plant(150, 80, 6_000)
    known, validation = split_validation(planted.ratings, 0.1, seed=0)
    known = known.sort("rated_at", "user_id", "movie_id")
    before = known.head(len(known) - len(known) // 100)
    tonight, last_night = (learner_on(ratings, planted) for ratings in (known, before))
    config = MODELS[name].configure(len(known), len(LEVELS))
    rows, unseen = tonight.encode(known), tonight.encode(validation)
    _, cold = fit_seeded(name, config, rows, tonight, validation=unseen)
    best = best_epoch(cold)
    network, _ = fit_seeded(name, config, last_night.encode(before), last_night, stop_after=best.number)
    champion = Champion(RUN, name, config, network, last_night.vocabulary, WarmStartConfig())
    _, warm = fit_seeded(name, config, rows, tonight, validation=unseen, stop_after=best.number, champion=champion)
    assert best.validation_error
    assert epochs_to_reach(best.validation_error, warm) <= best.number / 3


def learner_on(ratings: pl.DataFrame, planted: Any) -> Learner:
    vocabulary = fit_vocabulary(ratings)
    return Learner(vocabulary, LEVELS, 0, "cpu", fit_features(vocabulary, planted.users, planted.movies))


def test_rows_of_forgotten_users_are_not_copied() -> None:
    """Tonight's tables contain none of their rows, although they influenced the champion's shared weights."""
    champion = champion_of("ordinal")
    _, warm = started("ordinal", champion)
    theirs: Any = champion.network
    rows = {tuple(row) for row in warm.user.tolist()}
    assert not any(tuple(row) in rows for row in theirs.user[1:11].tolist())
    assert any(tuple(row) in rows for row in theirs.user[11:].tolist())
    assert len(np.unique(warm.user.detach().numpy(), axis=0)) > 30
