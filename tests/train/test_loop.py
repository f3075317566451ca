import logging
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from recsys.errors import ModelError
from recsys.models import MODELS, Interactions, Network, NetworkConfig, RatingNetwork
from recsys.models.ordinal import OrdinalNetwork
from recsys.models.softmax import SoftmaxConfig, SoftmaxNetwork
from recsys.train import loop as engine
from recsys.train.device import make_generator
from recsys.train.loop import Epoch, best_epoch, fit_network, predict
from tests.support.planted import (
    LEVELS,
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
    pairs_of,
    parts,
    predict_all,
    quick_config,
    same_weights,
)

every_model = pytest.mark.parametrize("name", MODELS)


def overfitting(name: str) -> NetworkConfig:
    """Trained until it knows the training rows by heart, so that its best epoch is not its last."""
    config = quick_config(name, epochs=12, batch_size=64, learning_rate=0.03, schedule="constant", optimizer="adam")
    held_back_by = {"dropout", "dropout_embedding", "hidden_share", "l2_thresholds"} & set(type(config).model_fields)
    return change(config, **dict.fromkeys(held_back_by, 0.0), **({"l2": 0.001} if name.startswith("ordinal") else {}))


def flip(rows: Interactions) -> Interactions:
    """The same pairs with the opposite stars."""
    return replace(rows, level_idx=len(LEVELS) - 1 - rows.level_idx)


def own_error(network: Network, rows: Interactions) -> float:
    """The mean of what the network itself calls its errors: what its epochs are chosen by."""
    network.eval()
    with torch.no_grad():
        return network.errors(rows).double().mean().item()


class Watched(SoftmaxNetwork):
    """Notes what each step of the loop looks like from inside."""

    def __init__(self) -> None:
        super().__init__(SoftmaxConfig(embedding_dim=4, hidden_dim=4, training=quick_config("softmax").training), SIZES)
        self.batches: list[Interactions] = []
        self.threads: set[int] = set()

    def loss(self, batch: Interactions) -> torch.Tensor:
        assert self.training
        self.batches.append(batch)
        self.threads.add(torch.get_num_threads())
        return super().loss(batch)


@pytest.mark.parametrize("name", RATERS)  # the others learn from who rated what, not from the stars
def test_the_best_epoch_on_validation_is_kept(name: str) -> None:
    """Validation says the opposite of train, so that the more a network learns the worse it gets."""
    train = parts()[0]
    network, epochs = fit_any(name, overfitting(name), train=train, validation=flip(train))
    least = min(epoch.validation_error for epoch in epochs if epoch.validation_error is not None)
    assert best_epoch(epochs).validation_error == least
    assert best_epoch(epochs).number < len(epochs) == 12
    assert epochs[-1].validation_error != least
    assert own_error(network, flip(train)) == least


@every_model
def test_stop_after_meets_the_same_epoch_again(name: str) -> None:
    train = parts()[0]
    config = overfitting(name)
    chosen, epochs = fit_any(name, config, train=train, validation=flip(train))
    again, _ = fit_any(name, config, train=train, stop_after=best_epoch(epochs).number)
    assert same_weights(again, chosen)


@every_model
def test_stop_after_is_an_epoch_of_the_full_schedule(name: str) -> None:
    """Two epochs of a schedule of six are not a schedule of two."""
    six, two = (quick_config(name, epochs=epochs, schedule="one_cycle") for epochs in (6, 2))
    stopped, epochs = fit_any(name, six, stop_after=2)
    assert epochs == fit_any(name, six)[1][:2]
    assert not same_weights(stopped, fit_any(name, two)[0])


@every_model
def test_validation_is_never_trained_on(name: str) -> None:
    """Other stars or other pairs in validation: the same weights for the same epoch."""
    train, validation = parts()
    first, _ = fit_any(name, train=train, stop_after=1)
    second, alone = fit_any(name, train=train, stop_after=2)
    for other in (validation, flip(validation), concat(validation, train)):
        network, epochs = fit_any(name, train=train, validation=other, stop_after=2)
        assert [epoch.loss for epoch in epochs] == [epoch.loss for epoch in alone]
        assert same_weights(network, second if best_epoch(epochs).number == 2 else first)


def test_implicit_history_comes_from_training_rows_only() -> None:
    train, validation = parts()
    alone, _ = fit("ordinal", train=train, stop_after=1)
    beside, _ = fit("ordinal", train=train, validation=validation, stop_after=1)
    assert torch.equal(predict_all(alone), predict_all(beside))


def test_history_that_includes_the_holdout_would_be_seen() -> None:
    """What the test above and those of evaluate_files are there to catch does change predictions."""
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
    network, train = Watched(), parts()[0].take(torch.arange(257))
    training = quick_config("softmax", epochs=2, batch_size=64).training  # four batches of 64 would leave one of 1
    fit_network(network, train, training)
    sizes = [len(batch) for batch in network.batches]
    assert sizes == [52, 52, 51, 51, 51] * 2
    for first in (0, 5):
        rows = [pair for batch in network.batches[first : first + 5] for pair in pairs(batch)]
        assert sorted(rows) == sorted(pairs(train))
        assert rows != pairs(train)
    assert pairs(network.batches[0]) != pairs(network.batches[5])  # drawn anew for each epoch


def pairs(rows: Interactions) -> list[tuple[int, int, int]]:
    return list(zip(rows.user_idx.tolist(), rows.item_idx.tolist(), rows.level_idx.tolist(), strict=True))


@pytest.mark.parametrize(("n_rows", "batch_size"), [(5, 4), (9, 8), (65, 64), (1000, 333), (999, 3)])
def test_no_step_is_left_with_one_row(n_rows: int, batch_size: int) -> None:
    network = Watched()
    training = quick_config("softmax", epochs=1, batch_size=batch_size).training
    fit_network(network, parts()[0].take(torch.arange(n_rows)), training)
    assert min(map(len, network.batches)) >= 2
    assert max(map(len, network.batches)) <= batch_size


@pytest.mark.usefixtures("two_threads")
def test_training_uses_one_thread_and_gives_the_others_back() -> None:
    network = Watched()
    fit_network(network, parts()[0], quick_config("softmax").training)
    assert network.threads == {1}
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
@every_model
def test_divergence_names_its_step(name: str) -> None:
    config = quick_config(name, learning_rate=1e30, schedule="constant", batch_size=64)
    with pytest.raises(
        ModelError, match=r"train: epoch \d, step \d+ of \d+: the loss is (nan|inf).*Lower learning_rate"
    ):
        fit_any(name, config)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("step", [1, 3])
def test_the_first_step_that_diverged_is_the_one_named(step: int) -> None:
    class Diverging(Watched):
        def loss(self, batch: Interactions) -> torch.Tensor:
            loss = super().loss(batch)
            return loss * torch.nan if len(self.batches) >= step + 4 else loss

    network, training = Diverging(), quick_config("softmax", batch_size=250).training
    with pytest.raises(ModelError, match=f"epoch 2, step {step} of 4: the loss is nan"):
        fit_network(network, parts()[0], training)
    assert len(network.batches) == step + 4  # no further step was taken
    assert all(weight.isfinite().all() for weight in network.parameters())  # nor was this one


class Scripted(Watched):
    """Has the validation errors that it is told to have, epoch by epoch."""

    def __init__(self, *errors: float) -> None:
        super().__init__()
        self.script = iter(errors)
        self.after: list[torch.Tensor] = []  # each epoch's weights

    def errors(self, rows: Interactions) -> torch.Tensor:
        self.after.append(self.user_embedding.weight.clone())
        return torch.full((len(rows),), next(self.script))


@pytest.mark.parametrize(
    ("patience", "errors", "n_epochs", "best"),
    [
        (1, (0.9, 0.8, 0.85, 0.1), 3, 2),
        (2, (0.9, 0.8, 0.85, 0.79, 0.9, 0.8, 0.1), 6, 4),
        (2, (0.5, 0.5, 0.5, 0.1), 3, 1),  # as good as the best is no better
        (2, (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3), 7, 7),
        (None, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), 7, 1),
    ],
)
def test_patience_ends_training_where_it_must(
    patience: int | None, errors: tuple[float, ...], n_epochs: int, best: int
) -> None:
    network = Scripted(*errors)
    training = quick_config("softmax", epochs=7, patience=patience).training
    epochs = fit_network(network, parts()[0], training, validation=parts()[1])
    assert len(epochs) == n_epochs
    assert best_epoch(epochs).number == best
    assert torch.equal(network.user_embedding.weight, network.after[best - 1])


def test_without_validation_there_is_nothing_to_be_patient_about() -> None:
    assert len(fit("softmax", quick_config("softmax", epochs=7, patience=1))[1]) == 7


def test_the_order_of_rows_has_chance_of_its_own() -> None:
    """A network that draws nothing leaves torch's global generator alone, and what others draw there is no matter."""
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


def test_trainings_in_two_threads_are_as_one_after_the_other() -> None:
    config = quick_config("ordinal_basic", epochs=10)

    def train(seed: int) -> RatingNetwork:
        network = networks[seed]
        fit_network(network, parts()[0], config.training, generator=make_generator(seed))
        return network

    networks = [build("ordinal_basic", config, seed) for seed in range(2)]
    in_turn = [train(seed) for seed in range(2)]
    networks = [build("ordinal_basic", config, seed) for seed in range(2)]
    with ThreadPoolExecutor(2) as pool:
        beside = list(pool.map(train, range(2)))
    for one, other in zip(in_turn, beside, strict=True):
        assert same_weights(one, other)


@every_model
def test_half_precision_trains_too(name: str) -> None:
    """As on CUDA, where products are in bfloat16; weights and what they predict stay float32."""
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


def test_the_start_comes_after_preparation_and_before_the_first_step() -> None:
    def start(network: Network) -> None:
        assert isinstance(network, Watched)
        assert network.batches == []
        assert not network.user_embedding.weight[0].any()  # zeroed by prepare
        seen.append(network)

    seen: list[Network] = []
    network = Watched()
    fit_network(network, parts()[0], quick_config("softmax").training, start=start)
    assert seen == [network]


@pytest.mark.parametrize(
    ("maes", "best"), [([0.9, 0.7, 0.8], 2), ([0.7, 0.7, 0.6, 0.6], 3), ([0.5], 1), ([0.1, 0.0], 2), ([None, None], 1)]
)
def test_the_best_epoch_is_the_earliest_of_the_least(maes: list[float | None], best: int) -> None:
    epochs = [Epoch(number, 1.0, value) for number, value in enumerate(maes, start=1)]
    assert best_epoch(epochs).number == best


@every_model
def test_epochs_are_numbered_and_measured(name: str) -> None:
    train, validation = parts()
    _, epochs = fit_any(name, train=train, validation=validation)
    assert [epoch.number for epoch in epochs] == [1, 2, 3]
    assert all(epoch.validation_error is not None for epoch in epochs)
    assert all(epoch.validation_error is None for epoch in fit_any(name, train=train)[1])


def test_the_loss_of_an_epoch_is_the_mean_over_its_steps() -> None:
    class Counting(Watched):
        def loss(self, batch: Interactions) -> torch.Tensor:
            return super().loss(batch) * 0 + len(self.batches)

    epochs = fit_network(Counting(), parts()[0], quick_config("softmax", batch_size=250, epochs=2).training)
    assert [epoch.loss for epoch in epochs] == [(1 + 2 + 3 + 4) / 4, (5 + 6 + 7 + 8) / 4]


@every_model
def test_predicting_in_chunks_is_predicting_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, _ = fit_any(name)
    at_once = answer_all(network)
    assert len(at_once) < engine.ROWS_PER_PREDICTION
    monkeypatch.setattr(engine, "ROWS_PER_PREDICTION", 97)
    torch.testing.assert_close(answer_all(network), at_once)


@pytest.mark.parametrize("name", RATERS)
def test_predicting_nothing_and_without_gradients(name: str) -> None:
    network, _ = fit(name)
    nothing = torch.empty(0, dtype=torch.int64)
    assert predict(network, pairs_of(nothing, nothing)).p_BK.shape == (0, len(LEVELS))
    assert not predict_all(network).requires_grad


@every_model
def test_prediction_is_the_same_twice(name: str) -> None:
    """Even when somebody left the network in training mode, where dropout would draw."""
    network, _ = fit_any(name)
    assert torch.equal(answer_all(network.train()), answer_all(network))
    assert len(answer_all(network)) == len(every_pair())


def test_each_epoch_stands_in_the_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.progress.LINE_EVERY_SECONDS", 0.0)
    train, validation = parts()
    with caplog.at_level(logging.INFO, logger="recsys.train.loop"):
        _, epochs = fit("ordinal", train=train, validation=validation)
    assert len(caplog.messages) == 4
    for line, epoch in zip(caplog.messages, epochs, strict=False):
        assert f"epoch {epoch.number}, loss {epoch.loss:.4f}, validation MAE {epoch.validation_error:.4f}" in line
    assert caplog.messages[-1].startswith("train: 3,000 ratings in 3 epochs in ")


def test_a_long_epoch_tells_how_far_it_is(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.progress.LINE_EVERY_SECONDS", 0.0)
    train, validation = parts()
    with caplog.at_level(logging.INFO, logger="recsys.train.loop"):
        _, epochs = fit("ordinal", quick_config("ordinal", batch_size=10), train=train, validation=validation)
    lines = [line.split("; ", 1) for line in caplog.messages[:-1]]
    done = [int(counts.split()[1].replace(",", "")) for counts, _ in lines]
    assert done == [500, 1000, 1000, 1500, 2000, 2000, 2500, 3000, 3000]
    assert re.fullmatch(r"train: 1,500 of 3,000 ratings in 3 epochs, [\d,]+ a second, \d+ s left", lines[3][0])
    before = f"epoch 1, loss {epochs[0].loss:.4f}, validation MAE {epochs[0].validation_error:.4f}"
    assert re.fullmatch(rf"epoch 2, loss \d\.\d{{4}}; {re.escape(before)}", lines[3][1])


def test_an_end_before_its_time_is_told(caplog: pytest.LogCaptureFixture) -> None:
    network = Scripted(0.5, 0.6)
    training = quick_config("softmax", epochs=7, patience=1).training
    with caplog.at_level(logging.INFO, logger="recsys.train.loop"):
        fit_network(network, parts()[0], training, validation=parts()[1])
    assert caplog.messages[-1].startswith("train: 2,000 of 7,000 ratings in 7 epochs in ")
