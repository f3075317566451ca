import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from planted import (
    LEVELS,
    SIZES,
    build,
    change,
    concat,
    every_pair,
    fit,
    pairs_of,
    parts,
    predict_all,
    quick_config,
    same_weights,
)

from recsys import engine
from recsys.decode import decode_median
from recsys.engine import Epoch, best_epoch, fit_network, pick_device, predict
from recsys.errors import ModelError, UsageError
from recsys.metrics import mae
from recsys.models import MODELS, Interactions, NetworkConfig, RatingNetwork
from recsys.models.ordinal import OrdinalNetwork
from recsys.models.softmax import SoftmaxConfig, SoftmaxNetwork

every_model = pytest.mark.parametrize("name", MODELS)


def overfitting(name: str) -> NetworkConfig:
    """Trained until it knows the training rows by heart, so that its best epoch is not its last."""
    config = quick_config(name, epochs=12, batch_size=64, learning_rate=0.05, schedule="constant")
    return change(config, **({"l2": 0.001, "l2_thresholds": 0.0} if name == "ordinal" else {"dropout": 0.0}))


def flip(rows: Interactions) -> Interactions:
    """The same pairs with the opposite stars."""
    return replace(rows, level_idx=len(LEVELS) - 1 - rows.level_idx)


def validation_mae(network: RatingNetwork, validation: Interactions) -> float:
    p_BK = predict(network, validation).p_BK
    return mae(decode_median(p_BK, network.levels()), network.levels()[validation.level_idx])


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


@every_model
def test_the_best_epoch_on_validation_is_kept(name: str) -> None:
    train, validation = parts()
    network, epochs = fit(name, overfitting(name), train=train, validation=validation)
    least = min(epoch.validation_error for epoch in epochs if epoch.validation_error is not None)
    assert best_epoch(epochs).validation_error == least
    assert best_epoch(epochs).number < len(epochs) == 12
    assert epochs[-1].validation_error != least
    assert validation_mae(network, validation) == least


@every_model
def test_stop_after_meets_the_same_epoch_again(name: str) -> None:
    train, validation = parts()
    config = overfitting(name)
    chosen, epochs = fit(name, config, train=train, validation=validation)
    again, _ = fit(name, config, train=train, stop_after=best_epoch(epochs).number)
    assert same_weights(again, chosen)


@every_model
def test_stop_after_is_an_epoch_of_the_full_schedule(name: str) -> None:
    """Two epochs of a schedule of six are not a schedule of two."""
    six, two = (quick_config(name, epochs=epochs, schedule="one_cycle") for epochs in (6, 2))
    assert [epoch.loss for epoch in fit(name, six)[1][:2]] == [epoch.loss for epoch in fit(name, six, stop_after=2)[1]]
    assert not same_weights(fit(name, six, stop_after=2)[0], fit(name, two)[0])


@every_model
def test_validation_is_never_trained_on(name: str) -> None:
    """Other stars or other pairs in validation: the same weights for the same epoch."""
    train, validation = parts()
    without, _ = fit(name, train=train, stop_after=2)
    for other in (validation, flip(validation), validation.take(torch.arange(50)), concat(validation, train)):
        network = build(name, quick_config(name))
        training = quick_config(name).training
        epochs = fit_network(network, train, training, validation=other, stop_after=2)
        assert [epoch.loss for epoch in epochs] == [epoch.loss for epoch in fit(name, train=train, stop_after=2)[1]]
        if best_epoch(epochs).number == 2:
            assert same_weights(network, without)
        else:
            assert same_weights(network, fit(name, train=train, stop_after=1)[0])


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


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


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
    with pytest.raises(ModelError, match=r"train: epoch 1, step \d+ of 16: the loss is (nan|inf)\. Lower learning_ra"):
        fit(name, config)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("step", [1, 3])
def test_the_first_step_that_diverged_is_the_one_named(step: int) -> None:
    class Diverging(Watched):
        def loss(self, batch: Interactions) -> torch.Tensor:
            loss = super().loss(batch)
            return loss * torch.nan if len(self.batches) >= step + 4 else loss

    training = quick_config("softmax", batch_size=250).training
    with pytest.raises(ModelError, match=f"epoch 2, step {step} of 4: the loss is nan"):
        fit_network(Diverging(), parts()[0], training)


def test_a_last_step_that_breaks_the_weights_is_not_kept_silent() -> None:
    config = quick_config("ordinal", epochs=1, batch_size=1000, learning_rate=3e38, schedule="constant")
    with pytest.raises(ModelError, match=r"weights of .*user_table.* are not finite\. Lower learning_rate"):
        fit("ordinal", config)


@pytest.mark.parametrize(
    ("maes", "best"), [([0.9, 0.7, 0.8], 2), ([0.7, 0.7, 0.6, 0.6], 3), ([0.5], 1), ([0.1, 0.0], 2), ([None, None], 1)]
)
def test_the_best_epoch_is_the_earliest_of_the_least(maes: list[float | None], best: int) -> None:
    epochs = [Epoch(number, 1.0, value) for number, value in enumerate(maes, start=1)]
    assert best_epoch(epochs).number == best


@every_model
def test_epochs_are_numbered_and_measured(name: str) -> None:
    train, validation = parts()
    _, epochs = fit(name, train=train, validation=validation)
    assert [epoch.number for epoch in epochs] == [1, 2, 3]
    assert all(epoch.validation_error is not None for epoch in epochs)
    assert all(epoch.validation_error is None for epoch in fit(name, train=train)[1])


def test_the_loss_of_an_epoch_is_the_mean_over_its_steps() -> None:
    class Counting(Watched):
        def loss(self, batch: Interactions) -> torch.Tensor:
            return super().loss(batch) * 0 + len(self.batches)

    epochs = fit_network(Counting(), parts()[0], quick_config("softmax", batch_size=250, epochs=2).training)
    assert [epoch.loss for epoch in epochs] == [(1 + 2 + 3 + 4) / 4, (5 + 6 + 7 + 8) / 4]


@every_model
def test_predicting_in_chunks_is_predicting_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, _ = fit(name)
    at_once = predict_all(network)
    assert len(at_once) < engine.ROWS_PER_PREDICTION
    monkeypatch.setattr(engine, "ROWS_PER_PREDICTION", 97)
    torch.testing.assert_close(predict_all(network), at_once)


@every_model
def test_predicting_nothing_and_without_gradients(name: str) -> None:
    network, _ = fit(name)
    nothing = torch.empty(0, dtype=torch.int64)
    assert predict(network, pairs_of(nothing, nothing)).p_BK.shape == (0, len(LEVELS))
    assert not predict_all(network).requires_grad


@every_model
def test_prediction_is_the_same_twice(name: str) -> None:
    """Even when somebody left the network in training mode, where dropout would draw."""
    network, _ = fit(name)
    assert torch.equal(predict_all(network.train()), predict_all(network))
    assert len(predict_all(network)) == len(every_pair())


def test_devices() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    if torch.cuda.is_available():
        assert pick_device("auto") == pick_device("cuda") == torch.device("cuda")
    else:
        assert pick_device("auto") == torch.device("cpu")
        with pytest.raises(UsageError, match="no CUDA GPU; set RECSYS_DEVICE to cpu or auto"):
            pick_device("cuda")


def test_each_epoch_stands_in_the_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.progress.LINE_EVERY_SECONDS", 0.0)
    train, validation = parts()
    with caplog.at_level(logging.INFO, logger="recsys.engine"):
        _, epochs = fit("ordinal", train=train, validation=validation)
    assert len(caplog.messages) == 4
    for line, epoch in zip(caplog.messages, epochs, strict=False):
        assert f"epoch {epoch.number}, loss {epoch.loss:.4f}, validation MAE {epoch.validation_error:.4f}" in line
    assert caplog.messages[-1].startswith("train: 3,000 ratings in ")
