"""Layers, initial values and output scaling shared by the networks of several write-ups.

Shapes: B batch, R rows of a table.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TRUNCATED_STD = 0.87962566  # standard deviation of a standard normal distribution truncated at ±2


class Dropout(nn.Module):
    """Inverted dropout that makes eight decisions per 64-bit random number, which is eight times as fast on a CPU.

    The dropped share is `p`, rounded to a multiple of 1/256.
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
    """Batch norm with the defaults of Keras: its averages are over about 100 batches.

    Torch's default of about 10 batches is too noisy after dropout. A batch of one row has no variance, so it is
    normalised by the averages, as in prediction.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 1:
            return super().forward(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def three_dense_layers(n_inputs: int, hidden_dim: int, dropout: float, n_outputs: int) -> nn.Sequential:
    """The layers of the first write-up: dropout on the output of a dense layer, then batch norm."""
    return nn.Sequential(
        nn.Linear(n_inputs, hidden_dim), nn.ReLU(), Dropout(dropout), BatchNorm(hidden_dim),
        nn.Linear(hidden_dim, hidden_dim), nn.ReLU(), Dropout(dropout), BatchNorm(hidden_dim),
        nn.Linear(hidden_dim, hidden_dim), nn.ReLU(),
        nn.Linear(hidden_dim, n_outputs),
    )  # fmt: skip


def initialise_as_keras(module: nn.Module) -> None:
    """For `Module.apply`: embeddings uniform in ±0.05, dense layers Glorot uniform with zero bias."""
    if isinstance(module, nn.Embedding):
        nn.init.uniform_(module.weight, -0.05, 0.05)
    elif isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


def he_normal_table(n_rows: int, dim: int) -> nn.Embedding:
    """(R, dim): values from a truncated normal distribution with standard deviation √(2 / R).

    The distribution is truncated at two standard deviations of the untruncated distribution. Keras uses the number of
    rows as the fan-in of an embedding, so a longer table starts with smaller values.

    Source: He, Zhang, Ren and Sun, "Delving Deep into Rectifiers", ICCV 2015, section 2.2.
    """
    table = nn.Embedding(n_rows, dim)
    std = math.sqrt(2 / n_rows) / TRUNCATED_STD
    nn.init.trunc_normal_(table.weight, std=std, a=-2 * std, b=2 * std)
    return table


def scale_to_stars(logit_B: Tensor, levels: tuple[float, ...], widened: float = 0.0) -> Tensor:
    """Scales logits to stars by a sigmoid, (B,) -> (B,).

    The range goes from the lowest to the highest level, and is extended by `widened` stars at both ends. The result is
    computed in float32 even under autocast, because bfloat16 resolves only 1/64 of a star.
    """
    low, high = levels[0] - widened, levels[-1] + widened
    return low + (high - low) * torch.sigmoid(logit_B.float())
