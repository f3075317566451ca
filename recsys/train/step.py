"""One training step: its learning rate, its gradient, and the error message when it diverges."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from recsys.errors import ModelError
from recsys.models import Network, TrainingConfig

# one_cycle, with the defaults of torch's OneCycleLR
WARM_UP_SHARE = 0.3  # share of all steps
START_DIVISOR = 25.0  # the first rate is the peak divided by this
END_DIVISOR = 25e4  # the last rate is the peak divided by this

# The defaults of torch.optim.AdamW
ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8
ADAM_SLOTS = ("exp_avg", "exp_avg_sq", "step")


class Optimizer:
    """AdamW or SGD, fused: one pass over all weights per step, which matters for short steps.

    It calls the functions behind the classes of torch.optim, because an object of these classes imports torch's
    compiler, which takes longer than a small training.
    """

    def __init__(self, network: Network, training: TrainingConfig) -> None:
        self._parameters = list(network.parameters())
        self._training = training
        self._slots: dict[int, dict[str, Tensor]] = {}  # Adam's averages, by the parameter's position

    def zero_grad(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Changes the weights that have a gradient."""
        used = [place for place, parameter in enumerate(self._parameters) if parameter.grad is not None]
        weights: list[Tensor] = [self._parameters[place] for place in used]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        shared: dict[str, Any] = {
            "lr": rate,
            "weight_decay": self._training.weight_decay,
            "maximize": False,
            "fused": True,
        }
        if self._training.optimizer == "sgd":
            sgd(weights, gradients, [None] * len(used), momentum=0.0, dampening=0.0, nesterov=False, **shared)
            return
        slots = [self._slot(place) for place in used]
        averages, squares, steps = ([slot[name] for slot in slots] for name in ADAM_SLOTS)
        beta1, beta2 = ADAM_BETAS
        adamw(
            weights, gradients, averages, squares, [], steps,
            amsgrad=False, beta1=beta1, beta2=beta2, eps=ADAM_EPSILON, **shared,
        )  # fmt: skip

    def _slot(self, place: int) -> dict[str, Tensor]:
        if place not in self._slots:
            weight = self._parameters[place]
            values = (torch.zeros_like(weight), torch.zeros_like(weight), torch.zeros((), device=weight.device))
            self._slots[place] = dict(zip(ADAM_SLOTS, values, strict=True))
        return self._slots[place]

    def tensors(self) -> dict[str, Tensor]:
        """The state, by "position of the parameter.name"."""
        return {f"{place}.{name}": value for place, slot in self._slots.items() for name, value in slot.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes over what `tensors` returned in another process, maybe on another device."""
        self._slots = {}
        for key, value in tensors.items():
            place, _, name = key.partition(".")
            device = self._parameters[int(place)].device
            self._slots.setdefault(int(place), {})[name] = value.to(device)


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
