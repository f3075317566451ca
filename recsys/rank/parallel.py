"""Independent pieces of work on several cores, with results in the order of the pieces."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from recsys.train.device import one_thread

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def in_order(work: Callable[[Piece], Result], pieces: Iterable[Piece], device: torch.device) -> Iterator[Result]:
    """`work` of each piece. On a CPU by as many threads as torch would use for one piece, each with a single one of
    torch's: work that is half torch and half not keeps all cores busy so, and sums end the same way on any number of
    them. No more than one piece for each thread and one result more are in memory.
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
