"""Devices, threads, precision and random generators."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from recsys.errors import UsageError

ORDER = 0x9E3779B9  # arbitrary; with it, the order of rows and the initial weights use different random numbers


def pick_device(name: str) -> torch.device:
    """Returns the device with this name; `auto` is CUDA if available, else the CPU.

    `auto` never selects mps, which is untested and supports neither float64 nor sparse matrix products.

    Raises: UsageError if the requested device is not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda was requested, but torch finds no CUDA GPU; set RECSYS_DEVICE to cpu or auto")
    if name == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device mps was requested, but torch finds no Apple GPU; set RECSYS_DEVICE to cpu or auto")
    return torch.device(name)


def autocast(device: torch.device, half: bool) -> AbstractContextManager[object]:
    """Computes matrix products in bfloat16 if `half` is true. Weights, sums and losses remain float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if half else nullcontext()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds torch's global generators within the block, and restores their state afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def make_generator(seed: int) -> torch.Generator:
    """Makes a separate generator on the CPU, which is unaffected by other draws, including those in other threads."""
    return torch.Generator().manual_seed((seed ^ ORDER) % 2**63)


def generator_states(device: torch.device) -> dict[str, torch.Tensor]:
    """Returns the states of torch's global generators, which networks use: those of the CPU and of the device."""
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def set_generator_states(states: dict[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


class _Threads(threading.local):
    """The number of `one_thread` blocks that the calling thread is in."""

    depth = 0


_threads = _Threads()
_lock = threading.Lock()
_inside = 0  # number of threads within `one_thread`
_before = 1  # torch's number of threads outside of all blocks, which `one_thread` restores


@contextmanager
def one_thread() -> Iterator[None]:
    """Runs the block with one torch thread, so that sums are identical on any number of cores.

    Training steps are too short to gain from a second thread (measured). Torch keeps one number of threads for each
    Python thread, and another for threads that start later. Both are restored after the block. Blocks may be nested,
    and may run in several threads at once.
    """
    if _threads.depth:
        yield  # an outer block of this thread has already set the number
        return
    before = _enter()
    _threads.depth += 1
    try:
        yield
    finally:
        _threads.depth -= 1
        _leave(before)


def _enter() -> int:
    global _inside, _before  # noqa: PLW0603 - mirrors a state of torch that is global to the process
    with _lock:
        mine = torch.get_num_threads()  # always called, because the first call in a new thread initialises the number
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
