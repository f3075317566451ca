"""Where and how numbers are computed: the device, its threads, its precision, and where chance comes from."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from recsys.errors import UsageError

ORDER = 0x9E3779B9  # any constant: the order of rows must not repeat the numbers that the weights began with


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA if it is there, else the CPU. It never is mps, which must be asked for: torch has neither float64
    nor products of sparse matrices there, and nothing of ours has been run on one.

    Raises: UsageError if the device asked for is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda was asked for and torch sees no CUDA GPU; set RECSYS_DEVICE to cpu or auto")
    if name == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device mps was asked for and torch sees no Apple GPU; set RECSYS_DEVICE to cpu or auto")
    return torch.device(name)


def autocast(device: torch.device, half: bool) -> AbstractContextManager[object]:
    """Matrix products in bfloat16 where `half` is true; weights, sums and losses stay float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if half else nullcontext()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Every draw inside comes from `seed`; the generators outside go on as if nothing had happened."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def make_generator(seed: int) -> torch.Generator:
    """A source of random numbers of its own, on the CPU: others may draw beside it, in other threads too."""
    return torch.Generator().manual_seed((seed ^ ORDER) % 2**63)


def generator_states(device: torch.device) -> dict[str, torch.Tensor]:
    """Of torch's global generators, from which networks draw: that of the CPU and that of the device."""
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def set_generator_states(states: dict[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


class _Threads(threading.local):
    """How many `one_thread` blocks the calling thread is in."""

    depth = 0


_threads = _Threads()
_lock = threading.Lock()
_inside = 0  # threads within `one_thread`
_before = 1  # torch's own number, which the last of them restores for threads that begin later


@contextmanager
def one_thread() -> Iterator[None]:
    """On a CPU, steps this short gain nothing from a second thread (measured), and one makes sums end the same way on
    a machine with any number of cores.

    Torch keeps its number of threads once for each Python thread, and once for those that begin later; so several may
    be inside at a time, each as often as it likes, and the number that was there before comes back for all of them.
    """
    if _threads.depth:
        yield  # an outer block of this thread has seen to it
        return
    before = _enter()
    _threads.depth += 1
    try:
        yield
    finally:
        _threads.depth -= 1
        _leave(before)


def _enter() -> int:
    global _inside, _before  # noqa: PLW0603 - the state is torch's, one for the process; this mirrors it
    with _lock:
        mine = torch.get_num_threads()  # asked for always: a new thread's first question is what sets its number
        if _inside == 0:
            _before = mine
        _inside += 1
        torch.set_num_threads(1)
        return _before


def _leave(before: int) -> None:
    global _inside  # noqa: PLW0603
    with _lock:
        _inside -= 1
        torch.set_num_threads(before)
