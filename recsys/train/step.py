"""One training step: its learning rate, its gradient, and the error message when it diverges."""

import math

import torch
from torch import Tensor, nn

from recsys.errors import ModelError
from recsys.models import Network, TrainingConfig

# one_cycle, with the defaults of torch's OneCycleLR
WARM_UP_SHARE = 0.3  # share of all steps
START_DIVISOR = 25.0  # the first rate is the peak divided by this
END_DIVISOR = 25e4  # the last rate is the peak divided by this


def make_optimizer(network: Network, training: TrainingConfig) -> torch.optim.Optimizer:
    """Makes a fused AdamW or SGD, which needs one pass over all weights per step. This matters for short steps."""
    kind = torch.optim.SGD if training.optimizer == "sgd" else torch.optim.AdamW
    return kind(network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True)


def rate_at(step: int, n_steps: int, training: TrainingConfig) -> float:
    """Returns the learning rate of a step, 0 <= `step` < `n_steps`.

    Source: Smith and Topin, "Super-Convergence" (2018), with the shape of torch's OneCycleLR: half a cosine up to the
    peak over the first 30% of the steps, then half a cosine down.
    """
    peak = training.learning_rate
    if training.schedule == "constant" or n_steps == 1:
        return peak
    top = WARM_UP_SHARE * n_steps - 1  # step of the peak; not always an integer
    if step <= top:
        return _cosine(peak / START_DIVISOR, peak, step / top)
    return _cosine(peak, peak / END_DIVISOR, (step - top) / (n_steps - 1 - top))


def _cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def clip_gradient(network: Network, max_norm: float | None) -> None:
    """Scales the gradient of all weights together down to the norm `max_norm` if it is larger; None does nothing."""
    if max_norm is not None:
        nn.utils.clip_grad_norm_(network.parameters(), max_norm)


def is_finite(losses: Tensor) -> bool:
    """Whether one or several losses are finite. On a GPU, this waits for the queued steps."""
    return bool(losses.isfinite().all()) if losses.dim() else math.isfinite(losses.item())


def diverged(where: str, losses: list[Tensor], n_steps: int, network: Network, training: TrainingConfig) -> ModelError:
    """Returns the error for an epoch's `losses`, one of which is not finite. On a CPU, no step follows that loss."""
    values = torch.stack(losses).tolist()
    step = next(number for number, value in enumerate(values) if not math.isfinite(value))
    before = f" after {values[step - 1]:.4g} in the previous step" if step else ""
    return ModelError(
        f"{where}, step {step + 1} of {n_steps}: the loss is {values[step]}{before}. "
        f"{_describe_largest(network)} Lower learning_rate, now {training.learning_rate:g}, or set clip_norm; "
        "recsys compare --find-lr suggests a rate."
    )


def check_weights(network: Network, label: str, training: TrainingConfig) -> None:
    """Checks the weights after the last step, which no loss reflects. Raises: ModelError if one is not finite."""
    wrong = [name for name, weight in network.state_dict().items() if not weight.isfinite().all()]
    if wrong:
        raise ModelError(
            f"{label}: weights of {', '.join(wrong)} are not finite. Lower learning_rate, now "
            f"{training.learning_rate:g}; recsys compare --find-lr suggests a rate."
        )


def _describe_largest(network: Network) -> str:
    """Names the largest weight and the largest gradient, to show where training diverged."""
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    gradients = {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}
    return f"The largest weight is {_largest(weights)}, the largest gradient {_largest(gradients)}."


def _largest(tensors: dict[str, Tensor]) -> str:
    """Names the first tensor with a value that is not finite, else the tensor with the largest value."""
    if not tensors:
        return "none"
    sizes = {name: tensor.abs().max().item() for name, tensor in tensors.items()}
    name = max(sizes, key=lambda name: sizes[name] if math.isfinite(sizes[name]) else math.inf)
    return f"{sizes[name]:.4g} in {name}"
