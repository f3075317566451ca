import threading
import time
from collections.abc import Iterator

import pytest
import torch

from recsys.rank.parallel import map_in_order

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_are_in_the_order_of_the_pieces(threads: int) -> None:
    def work(piece: int) -> int:
        time.sleep(0.02 if piece % 3 == 0 else 0.0)
        return piece**2

    assert list(map_in_order(work, range(20), CPU)) == [piece**2 for piece in range(20)]


def test_each_piece_has_one_torch_thread_and_the_number_is_restored(threads: int) -> None:
    used = list(map_in_order(lambda _: (torch.get_num_threads(), threading.get_ident()), range(12), CPU))
    assert {n for n, _ in used} == {1}
    assert len({thread for _, thread in used}) <= threads
    assert torch.get_num_threads() == threads


def test_pieces_are_not_started_far_ahead(threads: int) -> None:
    begun: list[int] = []
    results = map_in_order(begun.append, range(100), CPU)
    next(results)
    assert len(begun) <= threads + 1
    results.close()  # type: ignore[attr-defined]


def test_an_error_is_raised_in_place_of_its_result(threads: int) -> None:
    results = map_in_order(lambda piece: 1 // piece, [1, 1, 0, 1], CPU)
    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_work_for_another_device_runs_in_the_calling_thread() -> None:
    here = threading.get_ident()
    assert {*map_in_order(lambda _: threading.get_ident(), range(3), torch.device("meta"))} == {here}
