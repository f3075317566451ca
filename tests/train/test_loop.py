"""The training loop, with networks that make different demands on it (LOOP_NETWORKS)."""

import logging
import math
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from recsys.errors import ModelError
from recsys.models import Interactions, Network, NetworkConfig, RatingNetwork
from recsys.models.ordinal import OrdinalNetwork
from recsys.models.softmax import SoftmaxConfig, SoftmaxNetwork
from recsys.train import loop
from recsys.train.device import make_generator
from recsys.train.loop import Epoch, best_epoch, fit_network, predict
from tests.support.planted import (
    LEVELS,
    LOOP_NETWORKS,
    RATERS,
    SIZES,
    answer_all,
    build,
    build_any,
    change,
    concat,
    every_pair,
    fit,
    fit_any,
    fitted,
    pairs_of,
    parts,
    predict_all,
    quick_config,
    rating,
    same_weights,
)

every_network = pytest.mark.parametrize("name", LOOP_NETWORKS)
every_rater = pytest.mark.parametrize("name", [name for name in LOOP_NETWORKS if name in RATERS])


def overfitting(name: str) -> NetworkConfig:
    """A config whose network overfits the training rows, so that its best epoch is not its last."""
    config = quick_config(name, epochs=8, batch_size=64, learning_rate=0.03, schedule="constant", optimizer="adam")
    regularisation = {"dropout", "l2_thresholds"} & set(type(config).model_fields)
    return change(config, **dict.fromkeys(regularisation, 0.0), **({"l2": 0.001} if name == "ordinal" else {}))


def flip(rows: Interactions) -> Interactions:
    """The same pairs with the opposite ratings."""
    return replace(rows, level_idx=len(LEVELS) - 1 - rows.level_idx)


def own_error(network: Network, rows: Interactions) -> float:
    """The mean of the network's `errors`, by which its best epoch is chosen."""
    network.eval()
    with torch.no_grad():
        return network.errors(rows).double().mean().item()


class Recording(SoftmaxNetwork):
    """Records the batch and the number of threads of each step."""

    def __init__(self) -> None:
        super().__init__(SoftmaxConfig(embedding_dim=4, hidden_dim=4, training=quick_config("softmax").training), SIZES)
        self.batches: list[Interactions] = []
        self.threads: set[int] = set()

    def loss(self, batch: Interactions) -> torch.Tensor:
        assert self.training
        self.batches.append(batch)
        self.threads.add(torch.get_num_threads())
        return super().loss(batch)


@every_rater  # ranking networks do not learn from the stars
def test_the_best_epoch_on_validation_is_kept(name: str) -> None:
    """Validation contradicts the training data, so the error rises as the network learns."""
    train = parts()[0]
    network, epochs = fit_any(name, overfitting(name), train=train, validation=flip(train))
    least = min(epoch.validation_error for epoch in epochs if epoch.validation_error is not None)
    assert best_epoch(epochs).validation_error == least
    assert best_epoch(epochs).number < len(epochs) == 8
    assert epochs[-1].validation_error != least
    assert own_error(network, flip(train)) == least


@every_network
def test_stop_after_reproduces_the_best_epoch(name: str) -> None:
    train = parts()[0]
    config = overfitting(name)
    chosen, epochs = fit_any(name, config, train=train, validation=flip(train))
    again, _ = fit_any(name, config, train=train, stop_after=best_epoch(epochs).number)
    assert same_weights(again, chosen)


@every_network
def test_stop_after_is_an_epoch_of_the_full_schedule(name: str) -> None:
    """The first two epochs of a six-epoch schedule differ from a two-epoch schedule."""
    six, two = (quick_config(name, epochs=epochs, schedule="one_cycle") for epochs in (6, 2))
    stopped, epochs = fit_any(name, six, stop_after=2)
    assert epochs == fit_any(name, six)[1][:2]
    assert not same_weights(stopped, fit_any(name, two)[0])


@every_network
def test_validation_is_never_trained_on(name: str) -> None:
    """Changing ratings or pairs of validation does not change the weights of an epoch."""
    train, validation = parts()
    first, _ = fit_any(name, train=train, stop_after=1)
    second, alone = fit_any(name, train=train, stop_after=2)
    for other in (validation, flip(validation), concat(validation, train)):
        network, epochs = fit_any(name, train=train, validation=other, stop_after=2)
        assert [epoch.loss for epoch in epochs] == [epoch.loss for epoch in alone]
        assert same_weights(network, second if best_epoch(epochs).number == 2 else first)


def test_implicit_history_comes_only_from_training_rows() -> None:
    train, validation = parts()
    alone, _ = fit("ordinal", train=train, stop_after=1)
    with_validation, _ = fit("ordinal", train=train, validation=validation, stop_after=1)
    assert torch.equal(predict_all(alone), predict_all(with_validation))


def test_a_history_that_includes_the_holdout_changes_predictions() -> None:
    """So the test above would detect this leak."""
    train, holdout = parts()

    class Leaking(OrdinalNetwork):
        def prepare(self, train: Interactions) -> Interactions:
            super().prepare(concat(train, holdout))
            return train

    config = quick_config("ordinal")
    honest, _ = fit("ordinal", config, train=train)
    torch.manual_seed(0)
    leaking = Leaking(config, SIZES)  # type: ignore[arg-type]
    fit_network(leaking, train, config.training)
    assert not torch.equal(predict_all(leaking), predict_all(honest))


def test_every_row_is_trained_on_once_an_epoch_in_batches_of_nearly_equal_size() -> None:
    network, train = Recording(), parts()[0].take(torch.arange(257))
    training = quick_config("softmax", epochs=2, batch_size=64).training  # four batches of 64 would leave one of 1
    fit_network(network, train, training)
    sizes = [len(batch) for batch in network.batches]
    assert sizes == [52, 52, 51, 51, 51] * 2
    for first in (0, 5):
        rows = [pair for batch in network.batches[first : first + 5] for pair in pairs(batch)]
        assert sorted(rows) == sorted(pairs(train))
        assert rows != pairs(train)
    assert pairs(network.batches[0]) != pairs(network.batches[5])  # a new order in each epoch


def pairs(rows: Interactions) -> list[tuple[int, int, int]]:
    return list(zip(rows.user_idx.tolist(), rows.item_idx.tolist(), rows.level_idx.tolist(), strict=True))


@pytest.mark.parametrize(("n_rows", "batch_size"), [(5, 4), (9, 8), (65, 64), (1000, 333), (999, 3)])
def test_no_batch_has_a_single_row(n_rows: int, batch_size: int) -> None:
    network = Recording()
    training = quick_config("softmax", epochs=1, batch_size=batch_size).training
    fit_network(network, parts()[0].take(torch.arange(n_rows)), training)
    assert min(map(len, network.batches)) >= 2
    assert max(map(len, network.batches)) <= batch_size


@pytest.mark.usefixtures("two_threads")
def test_training_uses_one_thread_and_restores_the_number() -> None:
    network = Recording()
    fit_network(network, parts()[0], quick_config("softmax").training)
    assert network.threads == {1}
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
@every_network
def test_divergence_is_reported_with_its_step(name: str) -> None:
    config = quick_config(name, learning_rate=1e30, schedule="constant", batch_size=64)
    with pytest.raises(
        ModelError, match=r"train: epoch \d, step \d+ of \d+: the loss is (nan|inf).*Lower learning_rate"
    ):
        fit_any(name, config)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("step", [1, 3])
def test_the_first_diverging_step_is_reported(step: int) -> None:
    class Diverging(Recording):
        def loss(self, batch: Interactions) -> torch.Tensor:
            loss = super().loss(batch)
            return loss * torch.nan if len(self.batches) >= step + 4 else loss

    network, training = Diverging(), quick_config("softmax", batch_size=250).training
    with pytest.raises(ModelError, match=f"epoch 2, step {step} of 4: the loss is nan"):
        fit_network(network, parts()[0], training)
    assert len(network.batches) == step + 4  # no further loss was computed
    assert all(weight.isfinite().all() for weight in network.parameters())  # and the step itself was not taken


class Scripted(Recording):
    """Has the given validation error in each epoch."""

    def __init__(self, *errors: float) -> None:
        super().__init__()
        self.script = iter(errors)
        self.after: list[torch.Tensor] = []  # the weights after each epoch

    def errors(self, rows: Interactions) -> torch.Tensor:
        self.after.append(self.user_embedding.weight.clone())
        return torch.full((len(rows),), next(self.script))


@pytest.mark.parametrize(
    ("patience", "errors", "n_epochs", "best"),
    [
        (1, (0.9, 0.8, 0.85, 0.1), 3, 2),
        (2, (0.9, 0.8, 0.85, 0.79, 0.9, 0.8, 0.1), 6, 4),
        (2, (0.5, 0.5, 0.5, 0.1), 3, 1),  # a tie is no improvement
        (2, (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3), 7, 7),
        (None, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), 7, 1),
        (None, (math.nan, 0.9, 0.8, 0.9, math.nan, 0.9, 0.9), 7, 3),
    ],
)
def test_patience_stops_training_after_epochs_without_improvement(
    patience: int | None, errors: tuple[float, ...], n_epochs: int, best: int
) -> None:
    network = Scripted(*errors)
    training = quick_config("softmax", epochs=7, patience=patience).training
    epochs = fit_network(network, parts()[0], training, validation=parts()[1])
    assert len(epochs) == n_epochs
    assert best_epoch(epochs).number == best
    assert torch.equal(network.user_embedding.weight, network.after[best - 1])


def test_without_validation_patience_has_no_effect() -> None:
    assert len(fit("softmax", quick_config("softmax", epochs=7, patience=1))[1]) == 7


def test_the_order_of_rows_comes_from_its_own_generator() -> None:
    """Training a network without random draws neither uses nor depends on torch's global generator."""
    config = quick_config("ordinal_basic")
    networks = []
    for others in range(2):
        network = build("ordinal_basic", config)
        torch.rand(others)
        before = torch.get_rng_state()
        fit_network(network, parts()[0], config.training, generator=make_generator(5))
        assert torch.equal(torch.get_rng_state(), before)
        networks.append(network)
    assert same_weights(*networks)
    other = build("ordinal_basic", config)
    fit_network(other, parts()[0], config.training, generator=make_generator(6))
    assert not same_weights(networks[0], other)


def test_trainings_in_two_threads_equal_sequential_ones() -> None:
    config = quick_config("ordinal_basic", epochs=5)

    def train(seed: int) -> RatingNetwork:
        network = networks[seed]
        fit_network(network, parts()[0], config.training, generator=make_generator(seed))
        return network

    networks = [build("ordinal_basic", config, seed) for seed in range(2)]
    in_turn = [train(seed) for seed in range(2)]
    networks = [build("ordinal_basic", config, seed) for seed in range(2)]
    with ThreadPoolExecutor(2) as pool:
        parallel = list(pool.map(train, range(2)))
    for one, other in zip(in_turn, parallel, strict=True):
        assert same_weights(one, other)


@every_network
def test_half_precision_training_reduces_the_loss(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products are in bfloat16, as on CUDA. Weights and predictions stay float32."""
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)  # its LSTM in bfloat16 needs AVX-512
    network = build_any(name, quick_config(name))
    epochs = fit_network(network, parts()[0], quick_config(name, epochs=6).training, half=True)
    assert epochs[-1].loss < 0.95 * epochs[0].loss
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}
    assert answer_all(network).dtype == torch.float32


def test_half_precision_is_not_the_default_on_a_cpu() -> None:
    def train(half: bool | None) -> RatingNetwork:
        network = build("softmax", quick_config("softmax"))
        fit_network(network, parts()[0], quick_config("softmax").training, half=half)
        return network

    assert same_weights(train(None), train(False))
    assert not same_weights(train(None), train(True))


def test_start_is_called_between_preparation_and_the_first_step() -> None:
    def start(network: Network) -> None:
        assert isinstance(network, Recording)
        assert network.batches == []
        assert not network.user_embedding.weight[0].any()  # zeroed by prepare
        seen.append(network)

    seen: list[Network] = []
    network = Recording()
    fit_network(network, parts()[0], quick_config("softmax").training, start=start)
    assert seen == [network]


@pytest.mark.parametrize(
    ("maes", "best"), [([0.9, 0.7, 0.8], 2), ([0.7, 0.7, 0.6, 0.6], 3), ([0.5], 1), ([0.1, 0.0], 2), ([None, None], 1)]
)
def test_the_best_epoch_is_the_earliest_with_the_lowest_error(maes: list[float | None], best: int) -> None:
    epochs = [Epoch(number, 1.0, value) for number, value in enumerate(maes, start=1)]
    assert best_epoch(epochs).number == best


@pytest.mark.parametrize(("schedule", "best"), [("constant", 1), ("one_cycle", 4)])
def test_no_epoch_of_the_first_half_of_one_cycle_is_chosen(schedule: str, best: int) -> None:
    """Validation contradicts the training data, so the error rises from the first of six epochs on."""
    train = parts()[0]
    config = quick_config("dot_bias", epochs=6, schedule=schedule)
    network, epochs = fit_any("dot_bias", config, train=train, validation=flip(train))
    assert best_epoch(epochs).number == best
    assert own_error(network, flip(train)) == epochs[best - 1].validation_error


def test_of_early_epochs_only_the_best_is_chosen() -> None:
    """As in a training that is still in the first half of its schedule."""
    epochs = [Epoch(number, 1.0, error, is_early=True) for number, error in enumerate((0.9, 0.7, 0.8), start=1)]
    assert best_epoch(epochs).number == 2
    assert best_epoch([*epochs, Epoch(4, 1.0, 0.9)]).number == 4


@every_network
def test_epochs_are_numbered_and_measured(name: str) -> None:
    train, validation = parts()
    _, epochs = fit_any(name, train=train, validation=validation, stop_after=2)
    assert [epoch.number for epoch in epochs] == [1, 2]
    assert all(epoch.validation_error is not None for epoch in epochs)
    assert all(epoch.validation_error is None for epoch in fit_any(name, train=train, stop_after=1)[1])


def test_the_loss_of_an_epoch_is_the_mean_over_its_steps() -> None:
    class Counting(Recording):
        def loss(self, batch: Interactions) -> torch.Tensor:
            return super().loss(batch) * 0 + len(self.batches)

    epochs = fit_network(Counting(), parts()[0], quick_config("softmax", batch_size=250, epochs=2).training)
    assert [epoch.loss for epoch in epochs] == [(1 + 2 + 3 + 4) / 4, (5 + 6 + 7 + 8) / 4]


@every_network
def test_predictions_do_not_depend_on_the_batch_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = fitted(name)
    at_once = answer_all(network)
    assert len(at_once) < loop.ROWS_PER_PREDICTION
    monkeypatch.setattr(loop, "ROWS_PER_PREDICTION", 97)
    torch.testing.assert_close(answer_all(network), at_once)


@every_rater
def test_predictions_may_be_empty_and_have_no_gradients(name: str) -> None:
    network = rating(fitted(name))
    nothing = torch.empty(0, dtype=torch.int64)
    assert predict(network, pairs_of(nothing, nothing)).p_BK.shape == (0, len(LEVELS))
    assert not predict_all(network).requires_grad


@every_network
def test_repeated_predictions_are_equal(name: str) -> None:
    """This holds even if the network is still in training mode, in which dropout draws."""
    network = fitted(name)
    assert torch.equal(answer_all(network.train()), answer_all(network))
    assert len(answer_all(network)) == len(every_pair())


def test_each_epoch_is_logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.progress.LINE_EVERY_SECONDS", 0.0)
    train, validation = parts()
    with caplog.at_level(logging.INFO, logger="recsys.train.loop"):
        _, epochs = fit("softmax", train=train, validation=validation)
    assert len(caplog.messages) == 4
    for line, epoch in zip(caplog.messages, epochs, strict=False):
        assert f"epoch {epoch.number}, loss {epoch.loss:.4f}, validation MAE {epoch.validation_error:.4f}" in line
    assert caplog.messages[-1].startswith("train: 3,000 ratings in 3 epochs in ")


def test_a_long_epoch_logs_its_progress(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.progress.LINE_EVERY_SECONDS", 0.0)
    train, validation = parts()
    with caplog.at_level(logging.INFO, logger="recsys.train.loop"):
        _, epochs = fit("softmax", quick_config("softmax", batch_size=10), train=train, validation=validation)
    lines = [line.split("; ", 1) for line in caplog.messages[:-1]]
    done = [int(counts.split()[1].replace(",", "")) for counts, _ in lines]
    assert done == [500, 1000, 1000, 1500, 2000, 2000, 2500, 3000, 3000]
    assert re.fullmatch(r"train: 1,500 of 3,000 ratings in 3 epochs, [\d,]+ a second, \d+ s left", lines[3][0])
    before = f"epoch 1, loss {epochs[0].loss:.4f}, validation MAE {epochs[0].validation_error:.4f}"
    assert re.fullmatch(rf"epoch 2, loss \d\.\d{{4}}; {re.escape(before)}", lines[3][1])


def test_early_stopping_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    network = Scripted(0.5, 0.6)
    training = quick_config("softmax", epochs=7, patience=1).training
    with caplog.at_level(logging.INFO, logger="recsys.train.loop"):
        fit_network(network, parts()[0], training, validation=parts()[1])
    assert caplog.messages[-1].startswith("train: 2,000 of 7,000 ratings in 7 epochs in ")
