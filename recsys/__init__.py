"""A nightly movie recommender whose tables you can trust.

This module has the functions and classes that other programs may use:

    from pathlib import Path

    import recsys

    home = recsys.Home(Path("data"))
    print(recsys.recommend(home, 42))

Each name is imported when it is first used, so `import recsys` takes no time. Everything else in the package is
internal. The package never imports Prefect.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys.ask.explain import explain
    from recsys.ask.lookup import recommend, recommend_default, similar
    from recsys.ask.newcomer import recommend_for
    from recsys.ask.runs import open_run
    from recsys.errors import RecsysError
    from recsys.home import Home
    from recsys.nightly import run_night
    from recsys.settings import Settings
    from recsys.warehouse.lookup import list_runs

__version__ = "0.2.0"

__all__ = [
    "Home",
    "RecsysError",
    "Settings",
    "__version__",
    "explain",
    "list_runs",
    "open_run",
    "recommend",
    "recommend_default",
    "recommend_for",
    "run_night",
    "similar",
]

_MODULES = {
    "Home": "recsys.home",
    "RecsysError": "recsys.errors",
    "Settings": "recsys.settings",
    "explain": "recsys.ask.explain",
    "list_runs": "recsys.warehouse.lookup",
    "open_run": "recsys.ask.runs",
    "recommend": "recsys.ask.lookup",
    "recommend_default": "recsys.ask.lookup",
    "recommend_for": "recsys.ask.newcomer",
    "run_night": "recsys.nightly",
    "similar": "recsys.ask.lookup",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module 'recsys' has no attribute '{name}'")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
