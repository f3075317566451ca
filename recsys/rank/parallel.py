"""Runs independent pieces of work on several cores, and yields the results in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from recsys.train.device import one_thread

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def map_in_order(work: Callable[[Piece], Result], pieces: Iterable[Piece], device: torch.device) -> Iterator[Result]:
    """Yields `work(piece)` for each piece, in order.

    On a CPU, pieces run in as many threads as torch would use, and torch uses one thread for each. All cores are then
    busy even if only part of the work is torch, and sums do not depend on the number of cores. Memory holds at most one
    piece per thread and one more result.
    """
    workers = torch.get_num_threads() if device.type == "cpu" else 1
    if workers == 1:
        yield from map(work, pieces)
        return
    running: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="piece") as pool:
        for piece in pieces:
            running.append(pool.submit(_with_one_thread, work, piece))
            if len(running) > workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def _with_one_thread(work: Callable[[Piece], Result], piece: Piece) -> Result:
    with one_thread():
        return work(piece)
