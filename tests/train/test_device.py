import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from recsys.errors import UsageError
from recsys.train.device import (
    autocast,
    generator_states,
    make_generator,
    one_thread,
    pick_device,
    seeded,
    set_generator_states,
)

CPU = torch.device("cpu")


def test_each_device_setting_selects_its_device() -> None:
    assert pick_device("cpu") == CPU
    if torch.cuda.is_available():
        assert pick_device("auto") == pick_device("cuda") == torch.device("cuda")
    else:
        assert pick_device("auto") == CPU
        with pytest.raises(UsageError, match="no CUDA GPU; set RECSYS_DEVICE to cpu or auto"):
            pick_device("cuda")
    if torch.backends.mps.is_available():
        assert pick_device("mps") == torch.device("mps")
    else:
        with pytest.raises(UsageError, match="no Apple GPU; set RECSYS_DEVICE to cpu or auto"):
            pick_device("mps")


def test_half_precision_applies_only_to_matrix_products() -> None:
    weight = torch.rand(3, 3)
    with autocast(CPU, half=True):
        assert (weight @ weight).dtype == torch.bfloat16
        assert (weight + weight).dtype == torch.float32
    with autocast(CPU, half=False):
        assert (weight @ weight).dtype == torch.float32


def test_seeded_draws_do_not_affect_draws_outside() -> None:
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    with seeded(7):
        first = torch.rand(2)
        assert torch.initial_seed() == 7
    with seeded(7):
        assert torch.equal(torch.rand(2), first)
    assert torch.equal(torch.rand(2), expected)


def test_a_separate_generator_does_not_repeat_the_global_one() -> None:
    with seeded(7):
        weights = torch.rand(100)
    order = torch.rand(100, generator=make_generator(7))
    assert not torch.isin(order, weights).any()
    assert torch.equal(order, torch.rand(100, generator=make_generator(7)))
    assert not torch.equal(order, torch.rand(100, generator=make_generator(8)))


@pytest.mark.parametrize("seed", [0, 2**31 - 1, 2**64 - 1])
def test_any_seed_is_valid(seed: int) -> None:
    assert make_generator(seed).initial_seed() >= 0


def test_generator_states_can_be_restored() -> None:
    with seeded(3):
        states = generator_states(CPU)
        first = torch.rand(3)
        set_generator_states(states, CPU)
        assert torch.equal(torch.rand(3), first)


@pytest.mark.usefixtures("two_threads")
def test_one_thread_blocks_can_be_nested() -> None:
    with one_thread():
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1  # leaving the inner block does not end the outer one
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_the_number_of_threads_is_restored_after_an_error() -> None:
    with pytest.raises(ValueError, match="inside"), one_thread(), one_thread():
        raise ValueError("inside")
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_one_thread_blocks_can_overlap_in_several_python_threads() -> None:
    """Each block uses one thread. Afterwards all Python threads, including later ones, have the original number."""
    first_in, second_in, first_out = (threading.Event() for _ in range(3))

    def first() -> list[int]:
        with one_thread():
            first_in.set()
            assert second_in.wait(10)
            inside = torch.get_num_threads()
        first_out.set()
        return [inside, torch.get_num_threads()]

    def second() -> list[int]:
        assert first_in.wait(10)
        with one_thread():
            second_in.set()
            assert first_out.wait(10)
            inside = torch.get_num_threads()
        return [inside, torch.get_num_threads()]

    with ThreadPoolExecutor(2) as pool:
        seen = [future.result() for future in (pool.submit(first), pool.submit(second))]
    assert seen == [[1, 2], [1, 2]]
    assert torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 2
