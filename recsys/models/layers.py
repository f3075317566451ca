"""Layers and initial values that several write-ups' networks share, and the scale of their answers.

Shapes: B batch, R rows of a table.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TRUNCATED_STD = 0.87962566  # standard deviation of a standard normal distribution that is cut off at ±2


class Dropout(nn.Module):
    """Inverted dropout that draws eight decisions from one 64-bit random number: eight times faster on a CPU.

    The share dropped is `p` to the nearest 1/256.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.dropped_of_256 = round(p * 256)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.dropped_of_256 == 0:
            return x
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64, device=x.device).random_(-(2**63), None)
        kept = words.view(torch.uint8)[: x.numel()].view_as(x) >= self.dropped_of_256
        return x * kept * (256 / (256 - self.dropped_of_256))


class BatchNorm(nn.BatchNorm1d):
    """With Keras's averaging: over a hundred batches rather than ten, which dropout before it makes too noisy.

    A batch of one has no variance of its own; it is normalised as in prediction, by the averages.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 1:
            return super().forward(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def three_dense_layers(n_inputs: int, hidden_dim: int, dropout: float, n_outputs: int) -> nn.Sequential:
    """The first write-up's head: dropout acts on a dense layer's output and batch norm comes after it."""
    return nn.Sequential(
        nn.Linear(n_inputs, hidden_dim), nn.ReLU(), Dropout(dropout), BatchNorm(hidden_dim),
        nn.Linear(hidden_dim, hidden_dim), nn.ReLU(), Dropout(dropout), BatchNorm(hidden_dim),
        nn.Linear(hidden_dim, hidden_dim), nn.ReLU(),
        nn.Linear(hidden_dim, n_outputs),
    )  # fmt: skip


def initialise_as_keras(module: nn.Module) -> None:
    """Embeddings uniform in ±0.05, dense layers Glorot uniform with zero bias; to be given to `nn.Module.apply`."""
    if isinstance(module, nn.Embedding):
        nn.init.uniform_(module.weight, -0.05, 0.05)
    elif isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


def he_normal_table(n_rows: int, dim: int) -> nn.Embedding:
    """(R, dim): normal with standard deviation √(2 / R), cut off at twice that of the uncut one.

    Keras takes the number of rows for an embedding's fan-in, so a longer table starts out smaller.

    Source: He, Zhang, Ren and Sun, "Delving Deep into Rectifiers", ICCV 2015, 2.2.
    """
    table = nn.Embedding(n_rows, dim)
    std = math.sqrt(2 / n_rows) / TRUNCATED_STD
    nn.init.trunc_normal_(table.weight, std=std, a=-2 * std, b=2 * std)
    return table


def scale_to_stars(logit_B: Tensor, levels: tuple[float, ...], widened: float = 0.0) -> Tensor:
    """A sigmoid from the lowest to the highest level, (B,) -> (B,), each end `widened` stars further out.

    In float32, whatever the layers before it are computed in: bfloat16 would know 1/64 of a star and no less.
    """
    low, high = levels[0] - widened, levels[-1] + widened
    return low + (high - low) * torch.sigmoid(logit_B.float())
