import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from recsys.models.layers import BatchNorm, Dropout
from recsys.models.network import Sizes
from recsys.models.recurrent import RecurrentConfig, RecurrentNetwork, recurrent, recurrent_gru
from tests.support.planted import pairs_of

SIZES = Sizes(n_users=60, n_items=50, levels=(0.5, 1.0, 5.0))
DIM, HIDDEN = 3, 2

Vector = list[float]


def test_recurrent_is_as_published() -> None:
    config = recurrent(90_000, 10)
    assert (config.cell, config.hidden_dim, config.dropout) == ("lstm", 50, 0.8)
    network = RecurrentNetwork(config, SIZES)
    assert isinstance(network.recurrent, nn.LSTM)
    assert (network.recurrent.input_size, network.recurrent.hidden_size) == (config.embedding_dim, 50)
    assert [type(layer) for layer in network.head] == [BatchNorm, Dropout, nn.Linear]
    dropout = network.head[1]
    assert isinstance(dropout, Dropout)
    assert dropout.dropped_of_256 == 205


def test_recurrent_gru_differs_only_in_its_cell() -> None:
    lstm, gru = recurrent(90_000, 10), recurrent_gru(90_000, 10)
    assert gru.cell == "gru"
    assert gru.model_copy(update={"cell": "lstm"}) == lstm
    assert isinstance(RecurrentNetwork(gru, SIZES).recurrent, nn.GRU)


def tiny(cell: str) -> RecurrentNetwork:
    torch.manual_seed(0)
    config = {"embedding_dim": DIM, "hidden_dim": HIDDEN, "cell": cell, "training": recurrent(90_000, 10).training}
    network = RecurrentNetwork(RecurrentConfig.model_validate(config), SIZES).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_()
    return network


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def gates(layer: nn.LSTM | nn.GRU, source: str, x: Vector) -> list[Vector]:
    """The contribution to each gate from the input (ih) or the state (hh): W x + b, split into vectors of HIDDEN."""
    weight, bias = getattr(layer, f"weight_{source}_l0").tolist(), getattr(layer, f"bias_{source}_l0").tolist()
    flat = [b + sum(w * value for w, value in zip(row, x, strict=True)) for row, b in zip(weight, bias, strict=True)]
    return [flat[first : first + HIDDEN] for first in range(0, len(flat), HIDDEN)]


def lstm_by_hand(layer: nn.LSTM | nn.GRU, sequence: list[Vector]) -> Vector:
    h, c = [0.0] * HIDDEN, [0.0] * HIDDEN
    for x in sequence:
        from_x, from_h = gates(layer, "ih", x), gates(layer, "hh", h)
        for j in range(HIDDEN):
            put, forget, new, out = (from_x[gate][j] + from_h[gate][j] for gate in range(4))
            c[j] = sigmoid(forget) * c[j] + sigmoid(put) * math.tanh(new)
            h[j] = sigmoid(out) * math.tanh(c[j])
    return h


def gru_by_hand(layer: nn.LSTM | nn.GRU, sequence: list[Vector]) -> Vector:
    h = [0.0] * HIDDEN
    for x in sequence:
        from_x, from_h = gates(layer, "ih", x), gates(layer, "hh", h)
        for j in range(HIDDEN):
            reset, keep = (sigmoid(from_x[gate][j] + from_h[gate][j]) for gate in range(2))
            h[j] = (1 - keep) * math.tanh(from_x[2][j] + reset * from_h[2][j]) + keep * h[j]
    return h


@pytest.mark.parametrize(("cell", "by_hand"), [("lstm", lstm_by_hand), ("gru", gru_by_hand)])
def test_stars_by_hand(cell: str, by_hand: Callable[[nn.LSTM | nn.GRU, list[Vector]], Vector]) -> None:
    """The cell reads the user vector, then the movie vector. Batch norm and a dense layer follow, without dropout."""
    network = tiny(cell)
    pair = pairs_of(torch.tensor([5]), torch.tensor([9]))
    h = by_hand(network.recurrent, [network.user.weight[5].tolist(), network.item.weight[9].tolist()])
    assert network.activations(pair)[0].tolist() == pytest.approx(h, rel=1e-4)
    norm, dense = network.head[0], network.head[2]
    assert isinstance(norm, BatchNorm)
    assert isinstance(dense, nn.Linear)
    normed = [
        value / math.sqrt(1 + norm.eps) * scale + shift  # the averages of an untrained norm are mean 0 and variance 1
        for value, scale, shift in zip(h, norm.weight.tolist(), norm.bias.tolist(), strict=True)
    ]
    logit = dense.bias.item() + sum(w * x for w, x in zip(dense.weight[0].tolist(), normed, strict=True))
    assert network.stars(pair).item() == pytest.approx(0.5 + 4.5 * sigmoid(logit), rel=1e-4)


def test_the_recurrent_weights_are_trained() -> None:
    """In a sequence of one step they would have no gradient."""
    network = tiny("lstm")
    network.stars(pairs_of(torch.tensor([5, 6]), torch.tensor([9, 8]))).sum().backward()
    gradient = dict(network.recurrent.named_parameters())["weight_hh_l0"].grad
    assert gradient is not None
    assert gradient.abs().sum().item() > 0
