"""One training step: its learning rate, its gradient, and the error message when it diverges."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from recsys.errors import ModelError
from recsys.models import Network, TrainingConfig
from recsys.models.tiles import TiledNetwork

# one_cycle, with the defaults of torch's OneCycleLR
WARM_UP_SHARE = 0.3  # share of all steps
START_DIVISOR = 25.0  # the first rate is the peak divided by this
END_DIVISOR = 25e4  # the last rate is the peak divided by this

ADAM_BETAS = (0.9, 0.999)  # the defaults of torch.optim.AdamW
ADAM_EPSILON = 1e-8
ADAM_SLOTS = ("exp_avg", "exp_avg_sq", "step")

# On tiles, where each step sees another part of the ids (chosen on validation, docs/experiments.md)
TILE_BETAS = (0.9, 0.99)
OWN_ROWS_RATE = 3.0  # rows that change in one step of a sweep only have this multiple of the learning rate


class Optimizer:
    """AdamW or SGD, fused: one pass over all weights per step, which matters for short steps.

    It calls the functions behind the classes of torch.optim, because an object of these classes imports torch's
    compiler, which takes longer than a small training. It can also change some rows of a table, with the averages of
    these rows only; these classes cannot.
    """

    def __init__(self, network: Network, training: TrainingConfig) -> None:
        names, parameters = zip(*network.named_parameters(), strict=True)
        self.parameters: tuple[nn.Parameter, ...] = parameters
        self._places: dict[str, int] = {name: place for place, name in enumerate(names)}
        self._training = training
        self._betas = TILE_BETAS if isinstance(network, TiledNetwork) else ADAM_BETAS
        self._slots: dict[int, dict[str, Tensor]] = {}  # Adam's averages, by the parameter's position
        self._orders: dict[int, Tensor] = {}  # of tables whose rows are arranged, by position

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Changes the weights that have a gradient."""
        used = [place for place, parameter in enumerate(self.parameters) if parameter.grad is not None]
        weights: list[Tensor] = [self.parameters[place] for place in used]
        self._update(weights, [self._slot(place) for place in used], rate)

    @torch.no_grad()
    def step_rows(self, own: dict[str, Tensor], rows: dict[str, slice], rate: float) -> None:
        """Changes the rows that `rows` returned, by their gradients; see `OWN_ROWS_RATE`."""
        changed = [name for name, weights in own.items() if weights.grad is not None and len(weights)]
        slots = []
        for name in changed:
            slot = self._slot(self._places[name])
            of_rows = {kind: value[rows[name]] for kind, value in slot.items() if kind != "step"}
            slots.append(of_rows | {"step": slot["step"].clone()})  # see `count_step`
        self._update([own[name] for name in changed], slots, rate * OWN_ROWS_RATE)

    def count_step(self, names: Iterable[str]) -> None:
        """Counts one step of tables all of whose rows have been changed by `step_rows`."""
        for name in names:
            self._slot(self._places[name])["step"] += 1

    def rows(self, rows: dict[str, slice]) -> dict[str, Tensor]:
        """Some rows of tables, as leaves that share the memory of the tables."""
        return {
            name: self.parameters[self._places[name]].detach()[part].requires_grad_() for name, part in rows.items()
        }

    def arrange(self, orders: dict[str, Tensor]) -> None:
        """Puts the rows of tables into these orders, with their averages, until `arrange_back`."""
        self._orders = {self._places[name]: order for name, order in orders.items()}
        self._permute(lambda rows, order: rows[order])

    def arrange_back(self) -> None:
        self._permute(lambda rows, order: torch.empty_like(rows).index_copy_(0, order, rows))
        self._orders = {}

    @torch.no_grad()
    def _permute(self, permute: Callable[[Tensor, Tensor], Tensor]) -> None:
        for place, order in self._orders.items():
            self.parameters[place].data = permute(self.parameters[place].data, order)
            slot = self._slot(place)
            slot.update({kind: permute(value, order) for kind, value in slot.items() if kind != "step"})

    def _update(self, weights: list[Tensor], slots: list[dict[str, Tensor]], rate: float) -> None:
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        shared: dict[str, Any] = {
            "lr": rate,
            "weight_decay": self._training.weight_decay,
            "maximize": False,
            "fused": True,
        }
        if self._training.optimizer == "sgd":
            sgd(weights, gradients, [None] * len(weights), momentum=0.0, dampening=0.0, nesterov=False, **shared)
            return
        averages, squares, steps = ([slot[name] for slot in slots] for name in ADAM_SLOTS)
        beta1, beta2 = self._betas
        adamw(
            weights, gradients, averages, squares, [], steps,
            amsgrad=False, beta1=beta1, beta2=beta2, eps=ADAM_EPSILON, **shared,
        )  # fmt: skip

    def _slot(self, place: int) -> dict[str, Tensor]:
        if self._training.optimizer == "sgd":
            return {"step": torch.zeros(())}
        if place not in self._slots:
            weight = self.parameters[place]
            values = (torch.zeros_like(weight), torch.zeros_like(weight), torch.zeros((), device=weight.device))
            self._slots[place] = dict(zip(ADAM_SLOTS, (value.detach() for value in values), strict=True))
        return self._slots[place]

    def tensors(self) -> dict[str, Tensor]:
        """The state, by "position of the parameter.name"."""
        return {f"{place}.{name}": value for place, slot in self._slots.items() for name, value in slot.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes over what `tensors` returned in another process, maybe on another device."""
        self._slots = {}
        for key, value in tensors.items():
            place, _, name = key.partition(".")
            device = self.parameters[int(place)].device
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


def clip_gradient(weights: Iterable[Tensor], max_norm: float | None) -> None:
    """Scales the gradient of all weights together down to the norm `max_norm` if it is larger; None does nothing."""
    if max_norm is not None:
        nn.utils.clip_grad_norm_(weights, max_norm)


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
