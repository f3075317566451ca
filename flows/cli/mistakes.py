"""Explains invalid settings: names the variable or option, its value, and the valid name that is most similar."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from recsys.alerts.settings import AlertSettings
from recsys.errors import UsageError, suggest
from recsys.settings import Settings

PREFIX, NESTED, ALERTS = "RECSYS_", "__", "ALERT_"


def check_variables(environment: Mapping[str, str]) -> None:
    """Finds misspelt variables, which would otherwise be ignored in silence.

    A variable that is not similar to a setting is ignored, because it may belong to another program.

    Raises: UsageError for a variable that is similar to a setting.
    """
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    known += [f"{PREFIX}{ALERTS}{name.upper()}" for name in AlertSettings.model_fields]
    for name in sorted(environment):
        group, nested, rest = name.upper().partition(NESTED)
        if not group.startswith(PREFIX) or group in known or group.startswith(PREFIX + ALERTS):
            continue
        if hint := suggest(group.removeprefix(PREFIX), (one.removeprefix(PREFIX) for one in known)):
            found = hint.removeprefix(" Did you mean ").removesuffix("?")
            raise UsageError(
                f"{name} is not a setting. Did you mean {PREFIX}{found}{nested}{rest}? Next: rename or unset it; "
                "docs/settings.md lists all settings"
            )


def describe_invalid(error: ValidationError) -> str:
    return "; ".join(_describe(error))


def _describe(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        path = [str(part) for part in problem["loc"]]
        message = problem["msg"]
        if problem["type"] == "extra_forbidden":
            message = f"there is no such setting.{suggest(path[-1], _fields(path[:-1]))}"
        elif problem["type"] == "literal_error":
            message += "." + suggest(str(problem["input"]), re.findall(r"'([^']*)'", problem["ctx"]["expected"]))
        yield f"{'.'.join(path)} = {problem['input']!r}: {message.rstrip('.')}"


def _fields(path: Iterable[str]) -> list[str]:
    """The names of the settings in a group."""
    group: Any = Settings
    for part in path:
        group = type(group.model_fields[part].default) if part in getattr(group, "model_fields", {}) else None
    return list(group.model_fields) if isinstance(group, type) and issubclass(group, BaseModel) else []
