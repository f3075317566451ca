"""The steps of a night as Prefect tasks, so that the UI shows the state, log and duration of each step."""

import functools
from typing import Any, ParamSpec, TypeVar, cast

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed, Failed

from flows.endings import NAMES
from recsys.errors import RecsysError, SourceOutage
from recsys.runs.step import Executor, Step

P = ParamSpec("P")
R = TypeVar("R")


class TaskExecutor(Executor):
    """Executes each step as a task run. A step with a result from an earlier attempt ends in the state Cached."""

    def __call__(self, step: Step[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Like `Executor`, but Prefect retries the step, so that the UI shows each retry."""

        @functools.wraps(step.function)
        def run_step(*args: P.args, **kwargs: P.kwargs) -> R:
            kept = self.find_kept(step)
            if kept is not None:
                return cast(
                    R, Completed(name="Cached", message="The result of an earlier attempt is used.", data=kept.value)
                )
            try:
                return self.attempt(step, *args, **kwargs)
            except RecsysError as error:
                return cast(R, _failed(error))

        task = Task(
            run_step,
            name=step.name,
            cache_policy=NO_CACHE,
            persist_result=False,
            retries=len(step.retry_delays),
            retry_delay_seconds=list(step.retry_delays),
            retry_condition_fn=is_outage,
        )
        result = task(*args, **kwargs)
        return cast(R, result.result()) if isinstance(result, State) else result  # result() raises the step's error


def _failed(error: RecsysError) -> State[Any]:
    """The state of a step that ended with `error`. The caller of the task gets the error."""
    name = NAMES.get(type(error), "Failed")
    return Failed(name=name, message="The state of the flow run has the reason.", data=error)


def is_outage(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Whether the error may be temporary: the source was unreachable. A misspelt name, for example, is not retried."""
    return isinstance(state.result(raise_on_failure=False), SourceOutage)
