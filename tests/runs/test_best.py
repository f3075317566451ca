"""The best of the last published runs, from the differences along the chain of champions."""

import pytest

from recsys.files import write_json
from recsys.home import Home
from recsys.runs.best import find_best
from recsys.settings import GateConfig

RUNS = [f"202611{day:02}T030000Z" for day in range(1, 7)]
CONFIG = GateConfig(max_mae_regression=0.005, max_ndcg_regression=0.01)


def best(home: Home, *losses: tuple[float, float], config: GateConfig = CONFIG, kept: str = "012345") -> str | None:
    """Return the best of the run RUNS[0] and one later run for each loss in (MAE, NDCG@10); the last one is served."""
    for place, run_id in enumerate(RUNS):
        run = home.run(run_id)
        if not run.gate.exists():
            write_json(run.gate, {"forced": False})
        if str(place) in kept:
            write_json(run.holdout_model / "meta.json", {})
    chain = {later: (earlier, *loss) for earlier, later, loss in zip(RUNS, RUNS[1:], losses, strict=False)}
    return find_best(RUNS[len(losses)], chain, home, config)


def test_losses_add_up_along_the_chain(home: Home) -> None:
    found = best(home, (0.001, 0.0), (-0.003, 0.0), (0.002, 0.0), (0.002, 0.0))
    assert found == RUNS[2]  # 0.004 better than the served run, 0.002 better than the first


def test_the_served_run_may_be_the_best(home: Home) -> None:
    assert best(home, (-0.001, 0.0), (0.0, -0.002), (0.0, 0.0)) is None


def test_losses_of_lists_count_in_units_of_their_allowance(home: Home) -> None:
    """0.004 stars are 0.8 of the allowance, 0.009 of NDCG@10 are 0.9."""
    assert best(home, (0.004, -0.009), (-0.004, 0.009)) == RUNS[1]


def test_only_the_last_runs_that_keep_their_model_count(home: Home) -> None:
    losses = (0.003, 0.0), (0.002, 0.0), (0.001, 0.0)
    expected = {4: RUNS[0], 3: RUNS[1], 2: None, 1: None}
    found = {n: best(home, *losses, config=CONFIG.model_copy(update={"best_of": n}), kept="013") for n in expected}
    assert found == expected


@pytest.mark.parametrize("content", [{"forced": True}, {}, []])
def test_a_forced_run_starts_a_new_chain(home: Home, content: object) -> None:
    """A person has accepted its loss. Without a readable record, this is assumed."""
    write_json(home.run(RUNS[2]).gate, content)
    assert best(home, (0.0, 0.0), (0.5, 0.5), (0.001, 0.0)) == RUNS[2]


def test_without_a_comparison_there_is_no_best(home: Home) -> None:
    assert best(home) is None
