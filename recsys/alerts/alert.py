"""The content of an alert: what failed, which lists readers still see, and which command to run next.

`send` removes known secrets from it (`scrub`).
"""

import logging
import shlex
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from recsys.alerts.scrub import scrub
from recsys.datasets import name_data
from recsys.errors import panics_as_errors
from recsys.files import read_json
from recsys.forgotten import withhold
from recsys.home import Home, Run
from recsys.printable import printable
from recsys.warehouse.lookup import find_served

Kind = Literal["failed", "crashed", "data refused", "held back", "late", "test"]

TITLES: dict[Kind, str] = {
    "failed": "a run has failed",
    "crashed": "a run has crashed",
    "data refused": "the data of a night were refused",
    "held back": "the model of a night was held back",
    "late": "a night is missing",
    "test": "a test alert",
}
OPTIONS = ("source", "model", "as_of", "n", "seed")  # of `recsys nightly`, as named in the settings
MAX_LENGTH = 2000  # characters of a field
RESUMABLE = {"nightly", "backfill"}  # flows whose next run resumes after the last completed step

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Alert:
    """One message; every field is text or None."""

    kind: Kind
    title: str
    flow: str
    step: str | None  # the step in which the run ended
    reason: str
    source: str | None  # of the run, as given to it
    run_id: str | None  # as in the table `runs`
    run_url: str | None  # of the run in Prefect's UI; None without a server
    served: str  # which lists readers see now
    next_command: str  # the command to run
    home: str
    host: str
    at: str  # UTC, ISO 8601

    def as_json(self) -> dict[str, Any]:
        """All fields, and `text` with all of them, for chats that show nothing else."""
        return asdict(self) | {"text": self.text()}

    def text(self) -> str:
        """One field per line. Further lines of a field are indented, so that they do not look like another field."""
        named = {
            "reason": self.reason,
            "step": self.step,
            "source": self.source,
            "run": self.run_id,
            "details": self.run_url,
            "readers see": self.served,
            "next": self.next_command,
            "where": f"{self.home} on {self.host}, {self.at}",
        }
        facts = [self.title, *(f"{name}: {value}" for name, value in named.items() if value)]
        return "\n".join(fact.replace("\n", "\n    ") for fact in facts)


def make_alert(
    kind: Kind, home: Home, *, flow: str, reason: str, run: Run | None = None, step: str | None = None,
    run_url: str | None = None, source: str | None = None,
) -> Alert:  # fmt: skip
    """An alert about `home`, and about `run` if there is one. Rows of the source that `reason` quotes are left out."""
    home, host = Home(home.root.absolute()), socket.gethostname()
    return Alert(
        kind=kind,
        title=" ".join(f"{TITLES[kind]}: {flow} on {host}".split()),
        flow=flow,
        step=step,
        reason=withhold(reason),
        source=_read_options(run).get("source") or source,
        run_id=run.run_id if run else None,
        run_url=run_url,
        served=describe_served(home),
        next_command=find_next(kind, home, run, flow),
        home=str(home.root),
        host=host,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def clean(alert: Alert, secrets: Iterable[str] = ()) -> Alert:
    """The alert in the form that is sent: without known secrets, printable, and with fields of limited length."""
    known = tuple(secrets)
    texts = {name: text for name, text in asdict(alert).items() if text and name != "kind"}
    cleaned: dict[str, Any] = {name: _clean(text, known) for name, text in texts.items()}
    return replace(alert, **cleaned)


def describe_served(home: Home) -> str:
    """The lists that readers see. Never raises: an error of the warehouse becomes part of the text."""
    try:
        with panics_as_errors():
            served = find_served(home)
    except Exception as error:
        logger.debug("the warehouse cannot be read", exc_info=error)
        return f"unknown: {error}"
    if not served:
        return "nothing: no night has published yet"
    as_of = f"{served['as_of']:%Y-%m-%d %H:%M} UTC" if served["as_of"] else "an unknown time"
    data = name_data(served["dataset"], home.run(served["run_id"]))
    return (
        f"the lists of run {served['run_id']}, {data} before {as_of}, published "
        f"{served['finished_at']:%Y-%m-%d %H:%M} UTC"
    )


def find_next(kind: Kind, home: Home, run: Run | None, flow: str = "nightly") -> str:
    """The command to run; docs/operations.md explains each case."""
    where = f"--home {shlex.quote(str(home.root))}"
    log = f"less {shlex.quote(str(run.log))}" if run else f"recsys runs --limit 5 {where}"
    night = f"recsys nightly {where}{_options(run)}"
    check = f"recsys check {where}{_options(run, 'source', 'as_of')}"
    others = check if flow == "check" else f"recsys {flow} {where}, with its options"
    again = night if flow in ("nightly", "watch") else others
    resumed = f"{again} (resumes after the last completed step)" if flow in RESUMABLE else again
    steps: dict[Kind, str] = {
        "failed": f"{log}; fix the cause; {resumed}",
        "crashed": resumed,
        "data refused": f"{check}; fix the source, or set the limit that the reason names; {again}",
        "held back": f"less {shlex.quote(str(run.gate))}; to publish anyway: {night} --force-publish" if run else log,
        "late": f"recsys status {where}; systemctl status recsys-server recsys-worker; {again}",
        "test": "nothing",
    }
    return steps[kind]


def _options(run: Run | None, *names: str) -> str:
    """The options of the run, so that the next one repeats it; empty if its settings cannot be read."""
    given = _read_options(run)
    options = {f"--{name.replace('_', '-')}": given.get(name) for name in names or OPTIONS}
    return "".join(f" {name} {shlex.quote(str(value))}" for name, value in options.items() if value is not None)


def _read_options(run: Run | None) -> dict[str, Any]:
    """The settings of the run; empty if they cannot be read."""
    try:
        given = read_json(run.config) if run else {}
    except (OSError, ValueError):
        return {}
    return given if isinstance(given, dict) else {}


def _clean(text: str, secrets: Iterable[str]) -> str:
    words = "\n".join(printable(line) for line in scrub(text, secrets).splitlines())
    return words if len(words) <= MAX_LENGTH else f"{words[:MAX_LENGTH]}…"
