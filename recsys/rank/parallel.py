"""Run independent pieces of work on several cores and yield the results in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from recsys.train.device import one_thread

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def map_in_order(work: Callable[[Piece], Result], pieces: Iterable[Piece], device: torch.device) -> Iterator[Result]:
    """Yield `work(piece)` for each piece, in order.

    On a CPU, pieces run in as many threads as torch has, each with one torch thread. This keeps all cores busy when
    only part of the work is torch, and makes sums independent of the number of cores. At most one piece per thread and
    one more result are in memory.
    """
    workers = torch.get_num_threads() if device.type == "cpu" else 1
    if workers == 1:
        yield from map(work, pieces)
        return
    under_way: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="piece") as pool:
        for piece in pieces:
            under_way.append(pool.submit(_alone, work, piece))
            if len(under_way) > workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def _alone(work: Callable[[Piece], Result], piece: Piece) -> Result:
    with one_thread():
        return work(piece)
