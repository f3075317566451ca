"""Steps of a night as Prefect's tasks: what a finished one returned is kept until the night ends well."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from prefect import Task
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext

from recsys.errors import SourceOutage
from recsys.files import read_json
from recsys.home import Run
from recsys.runs.night import timed
from recsys.runs.resume import key_of

P = ParamSpec("P")
R = TypeVar("R")

HOUR = 3600.0
ROOT = Path("/")  # keys are whole paths: a run's results lie, and go, with the rest of it

_results: ContextVar[tuple[Path, str] | None] = ContextVar("results", default=None)  # folder, key of the run's inputs


def step(function: Callable[P, R], name: str, *, hours: float = 1, **options: Any) -> Task[P, R]:
    """A plain function of `recsys` as a task called `name`, ended with an error when it takes longer than `hours`.

    Its result is kept by the run's inputs: source, settings, rules, code (see `recsys.runs.resume`). Where
    there is one, the function is not called.
    """
    return Task(
        timed(function, name),
        name=name,
        cache_policy=CacheKeyFnPolicy(cache_key_fn=_key_of_result),
        persist_result=True,
        result_storage=ROOT,
        timeout_seconds=hours * HOUR,
        **options,
    )


@contextmanager
def keeping_results(run: Run) -> Iterator[None]:
    """While the block lasts, steps look for their results in the run's folder, and leave them there."""
    token = _results.set((run.results, key_of(read_json(run.inputs))))
    try:
        yield
    finally:
        _results.reset(token)


def is_outage(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Only what may be gone in a moment is worth another try: a misspelt name is not."""
    return isinstance(state.result(raise_on_failure=False), SourceOutage)


def _key_of_result(context: TaskRunContext, parameters: dict[str, Any]) -> str | None:
    """Where the result lies, from the root on; None, and so no result is kept, outside of a night."""
    kept = _results.get()
    if kept is None:
        return None
    folder, key = kept
    return str((folder / f"{context.task.name}-{key}").relative_to(ROOT))
