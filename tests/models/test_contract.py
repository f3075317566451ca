"""The contract of every network. A new network in MODELS is tested automatically.

Properties of a network's class are tested with one variant of it, properties of its config with every variant.
"""

import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from typing import cast

import pytest
import torch
from torch import Tensor

from recsys.encode.features import NO_FEATURES
from recsys.models import MODELS, Network, NetworkConfig, RatingNetwork, TrainingConfig
from recsys.models.network import NumberNetwork
from recsys.train.loop import fit_network, predict, score
from tests.support.planted import (
    CLASSES,
    FEATURES,
    LEVELS,
    LOOP_NETWORKS,
    RATER_CLASSES,
    ROOT,
    SIZES,
    answer_all,
    build_any,
    change,
    every_pair,
    fingerprint,
    fit,
    fit_any,
    pairs_of,
    parts,
    predict_all,
    quick_config,
    rating,
    same_weights,
)

every_variant = pytest.mark.parametrize("name", MODELS)
every_class = pytest.mark.parametrize("name", CLASSES)
every_rater = pytest.mark.parametrize("name", RATER_CLASSES)

OTHERS = {
    "constant": "one_cycle", "one_cycle": "constant", "adam": "sgd", "sgd": "adam", "lstm": "gru", "gru": "lstm",
    "he_normal": "uniform", "uniform": "he_normal", "margin": "bpr", "bpr": "margin", "ordinal": "softmax",
}  # fmt: skip
# These have no effect on planted ratings, which are few per day. test_moments.py and test_ordinal.py test them.
WITHOUT_EFFECT = [("ordinal", "min_ratings_per_day"), ("ordinal", "l2_days")]
LIMITS = ("training.clip_norm", "training.patience")  # None by default; tested in tests/train
KNOBS = [
    *((name, field) for name in CLASSES for field in MODELS[name].config_type.model_fields if field != "training"),
    *((name, f"training.{field}") for name in LOOP_NETWORKS for field in TrainingConfig.model_fields),
]
KNOBS = [(name, knob) for name, knob in KNOBS if knob not in LIMITS and (name, knob) not in WITHOUT_EFFECT]


def other_value(value: object) -> object:
    """Another valid value of the same type."""
    if isinstance(value, str):
        return OTHERS[value]
    if isinstance(value, tuple):
        return value[1:]
    if isinstance(value, dict):
        return {key: 2 * size for key, size in value.items()}
    if value is None or value == 0.0:
        return 0.5
    if isinstance(value, bool):
        return not value
    return value * 2 if isinstance(value, int) else value / 2  # type: ignore[operator]


def turn(config: NetworkConfig, knob: str) -> NetworkConfig:
    """`config` with another value of one field, which may be a field of its training config."""
    outer, _, inner = knob.partition(".")
    part = getattr(config, outer)
    value = part.model_copy(update={inner: other_value(getattr(part, inner))}) if inner else other_value(part)
    return change(config, **{outer: value})


@cache
def trained(name: str) -> tuple[Network, list[float]]:
    """A network after ten epochs, and the loss of each epoch."""
    network, epochs = fit_any(name, quick_config(name, epochs=10))
    return network, [epoch.loss for epoch in epochs]


@every_rater
def test_probabilities_are_distributions(name: str) -> None:
    p_BK = predict_all(rating(trained(name)[0]))
    assert p_BK.shape == (SIZES.n_users * SIZES.n_items, len(LEVELS))
    assert p_BK.dtype == torch.float32
    assert ((p_BK >= 0) & (p_BK <= 1)).all()
    torch.testing.assert_close(p_BK.sum(1), torch.ones(len(p_BK)))
    assert (p_BK.cumsum(1).diff(dim=1) >= 0).all()


@every_class
def test_predictions_depend_on_the_user_and_on_the_movie(name: str) -> None:
    p_UIK = answer_all(trained(name)[0]).view(SIZES.n_users, SIZES.n_items, -1)
    assert (p_UIK[1:] - p_UIK[1]).abs().max() > 0.05
    assert (p_UIK[:, 1:] - p_UIK[:, 1:2]).abs().max() > 0.05


@every_class
def test_loss_falls_on_planted_data(name: str) -> None:
    losses = trained(name)[1]
    assert losses[5] < 0.95 * losses[0]


@every_rater
def test_training_on_one_row_learns_its_level(name: str) -> None:
    one = parts()[0].take(torch.tensor([0]))
    network, epochs = fit(name, quick_config(name, epochs=60, learning_rate=0.03), train=one)
    assert len(epochs) == 60
    p_K = predict(network, one).p_BK.squeeze(0)
    assert p_K.argmax() == one.level_idx
    assert p_K.max() > 0.3


@every_rater
def test_a_single_row_is_predicted_as_in_a_batch(name: str) -> None:
    network = rating(trained(name)[0])
    one = every_pair().take(slice(500, 501))
    torch.testing.assert_close(predict(network, one).p_BK, predict_all(network)[500:501])


@every_class
def test_the_seed_determines_the_weights(name: str) -> None:
    short = quick_config(name, epochs=1)
    first, again, other = (fit_any(name, short, seed=seed)[0] for seed in (0, 0, 1))
    assert same_weights(first, again)
    assert not same_weights(first, other)


def test_another_process_with_more_threads_computes_the_same_weights() -> None:
    names = ("ordinal", "softmax", "recurrent")
    command = [
        sys.executable,
        "-c",
        f"from tests.support.planted import fingerprint; print(*map(fingerprint, {names}))",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "7"}
    output = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert output.split() == [fingerprint(name) for name in names]


@pytest.mark.parametrize(("name", "knob"), KNOBS)
def test_every_knob_alone_changes_the_result(name: str, knob: str) -> None:
    assert not torch.equal(default_answer(name), answer_all(fit_any(name, turn(coarse(name), knob))[0]))


def coarse(name: str) -> NetworkConfig:
    """A config with few steps, to be quick, but enough for knobs that only act after some steps."""
    return quick_config(name, epochs=2, batch_size=min(256, 4 * quick_config(name).training.batch_size))


@cache
def default_answer(name: str) -> Tensor:
    """The predictions of the network with all knobs at their defaults."""
    return answer_all(fit_any(name, coarse(name))[0])


@every_class
def test_with_the_same_knobs_the_result_is_the_same(name: str) -> None:
    """Otherwise the test above could not fail."""
    assert torch.equal(default_answer(name), answer_all(fit_any(name, coarse(name))[0]))


@every_class
def test_a_network_with_loaded_weights_predicts_the_same(name: str) -> None:
    network, _ = trained(name)
    other = build_any(name, quick_config(name), seed=9)
    other.load_state_dict(network.state_dict())
    assert torch.equal(answer_all(other), answer_all(network))


@every_class
def test_ids_without_training_ratings_are_predicted_like_the_unknown_id(name: str) -> None:
    """The network has no features, which may distinguish new ids."""
    rows = parts()[0]
    seen = rows.take(((rows.user_idx != 7) & (rows.item_idx != 9)).nonzero().squeeze(1))
    config = quick_config(name, epochs=1)
    torch.manual_seed(0)
    network = MODELS[name].build(config, SIZES, NO_FEATURES)
    fit_network(network, seen, config.training)
    p_UIK = answer_all(network).view(SIZES.n_users, SIZES.n_items, -1)
    assert torch.equal(p_UIK[7], p_UIK[0])
    assert torch.equal(p_UIK[:, 9], p_UIK[:, 0])
    assert not torch.equal(p_UIK[8], p_UIK[0])
    assert not torch.equal(p_UIK[:, 8], p_UIK[:, 0])


# dot needs more epochs than dot_sgd to leave its initial predictions of about zero stars
@pytest.mark.parametrize("name", ["dot_sgd" if name == "dot" else name for name in RATER_CLASSES])
def test_the_unknown_pair_has_about_the_overall_distribution(name: str) -> None:
    network, train = rating(trained(name)[0]), parts()[0]
    p_K = predict(network, pairs_of(torch.tensor([0]), torch.tensor([0]))).p_BK.squeeze(0)
    share_K = torch.bincount(train.level_idx, minlength=len(LEVELS)) / len(train)
    # a NumberNetwork has one spread for all pairs, which is too narrow for the unknown
    limit = 0.4 if isinstance(network, NumberNetwork) else 0.2
    assert (p_K - share_K).abs().sum() / 2 < limit  # the share of ratings by which the two distributions differ
    assert abs(p_K @ network.levels() - share_K @ network.levels()) < 0.4


@every_class
@pytest.mark.parametrize("pair", [(SIZES.n_users, 1), (1, SIZES.n_items)])
def test_an_index_beyond_the_tables_is_refused(name: str, pair: tuple[int, int]) -> None:
    with pytest.raises(IndexError, match="out of"):
        score(trained(name)[0], pairs_of(torch.tensor(pair[:1]), torch.tensor(pair[1:])))


@every_rater
def test_half_stars_and_two_levels(name: str) -> None:
    for levels in (tuple(half / 2 for half in range(1, 11)), (0.0, 1.0)):
        variant = MODELS[name]
        config = change(variant.configure(1000, len(levels)), training=quick_config(name, epochs=1).training)
        network = variant.build(config, replace(SIZES, levels=levels), FEATURES)
        assert isinstance(network, RatingNetwork)
        rows = parts()[0]
        level_idx = rows.level_idx * (len(levels) - 1) // 4
        fit_network(network, replace(rows, level_idx=level_idx), config.training)
        assert network.levels().tolist() == list(levels)
        assert predict_all(network).shape[1] == len(levels)


@every_variant
def test_a_config_survives_json(name: str) -> None:
    config = MODELS[name].configure(123_456, 10)
    assert MODELS[name].config_type.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("name", "n_ratings", "batch_size"),
    [
        ("ordinal", 67_500, 469),
        ("ordinal", 1_000_209, 6946),
        ("softmax", 100_000, 512),
        ("softmax", 1_000_209, 8192),
        ("ordinal", 10, 16),
        ("softmax", 10, 64),
    ],
)
def test_batch_sizes_are_those_of_the_experiments(name: str, n_ratings: int, batch_size: int) -> None:
    assert MODELS[name].configure(n_ratings, 5).training.batch_size == batch_size


def test_the_number_of_steps_of_softmax_hardly_depends_on_the_number_of_ratings() -> None:
    for n_ratings in (30_000, 100_000, 700_000, 1_000_000, 25_000_000):
        batch_size = MODELS["softmax"].configure(n_ratings, 5).training.batch_size
        assert batch_size.bit_count() == 1
        assert 150 / 2**0.5 <= n_ratings / batch_size <= 150 * 2**0.5


@pytest.mark.parametrize(("n_ratings", "n_blocks"), [(1_000, 8), (67_500, 12), (675_000, 12), (24_000_000, 12)])
def test_the_number_of_blocks_of_ordinal(n_ratings: int, n_blocks: int) -> None:
    training = MODELS["ordinal"].configure(n_ratings, 5).training
    assert round((n_ratings / training.batch_size) ** 0.5) == n_blocks


def test_schedules_are_those_of_the_experiments() -> None:
    ours, published = (MODELS[name].configure(100_000, 5).training for name in ("ordinal", "softmax"))
    assert (ours.epochs, ours.learning_rate, ours.schedule) == (14, 0.01, "one_cycle")
    assert (published.epochs, published.learning_rate, published.schedule) == (10, 0.01, "constant")


@pytest.mark.parametrize(
    "name", [name for name in CLASSES if issubclass(cast(type, MODELS[name].build), NumberNetwork)]
)
def test_stars_and_penalties_are_exact_in_mixed_precision(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 would resolve only 1/64 of a star, and three digits of a sum of squares."""
    network, rows = build_any(name, quick_config(name)), parts()[0]
    rows = network.prepare(rows)
    assert isinstance(network, NumberNetwork)
    network.eval()
    exact = network.penalty(rows)
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)  # its LSTM in bfloat16 needs AVX-512
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network.stars(rows).dtype == torch.float32
        assert network.penalty(rows) == exact
