"""What people are told when a night did not go well: what it is, what readers still see, what to type next.

An alert holds no secret: whatever looks like one is struck out before anything is sent (`recsys.alerts.scrub`).
"""

import logging
import shlex
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from recsys.alerts.scrub import scrub
from recsys.files import read_json
from recsys.home import Home, Run
from recsys.printable import printable
from recsys.warehouse.lookup import find_served

Kind = Literal["failed", "crashed", "data refused", "held back", "late", "test"]

TITLES: dict[Kind, str] = {
    "failed": "a run has failed",
    "crashed": "a run has ended without a word",
    "data refused": "the data of a night are refused",
    "held back": "the model of a night is held back",
    "late": "a night is missing",
    "test": "a test, nothing has happened",
}
LONGEST = 2000  # characters of a field
GO_ON = {"nightly", "backfill"}  # flows that keep what was done before they failed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Alert:
    """One message; every field is text or None."""

    kind: Kind
    title: str
    flow: str  # as Prefect names it
    step: str | None  # in which it ended
    reason: str
    run_id: str | None  # of the table `runs`
    run_url: str | None  # of the run in Prefect's UI; None where no server is configured
    served: str  # what readers see now
    next_command: str  # what to type
    home: str
    host: str
    at: str  # UTC, ISO 8601

    def as_json(self) -> dict[str, Any]:
        """With `text`, the whole of it for those that show nothing else, such as chats."""
        return asdict(self) | {"text": self.text()}

    def text(self) -> str:
        """A fact per line; the further lines of one are indented, so that none passes for another fact."""
        named = {
            "reason": self.reason,
            "step": self.step,
            "run": self.run_id,
            "look": self.run_url,
            "readers see": self.served,
            "next": self.next_command,
            "where": f"{self.home} on {self.host}, {self.at}",
        }
        facts = [self.title, *(f"{name}: {value}" for name, value in named.items() if value)]
        return "\n".join(fact.replace("\n", "\n    ") for fact in facts)


def make_alert(
    kind: Kind, home: Home, *, flow: str, reason: str, run: Run | None = None, step: str | None = None,
    run_url: str | None = None,
) -> Alert:  # fmt: skip
    """An alert about `home`, and `run` if the night had one, with secrets struck out."""
    home, host = Home(home.root.absolute()), socket.gethostname()
    alert = Alert(
        kind=kind,
        title=" ".join(f"{TITLES[kind]}: {flow} on {host}".split()),
        flow=flow,
        step=step,
        reason=reason,
        run_id=run.run_id if run else None,
        run_url=run_url,
        served=describe_served(home),
        next_command=find_next(kind, home, run, flow),
        home=str(home.root),
        host=host,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return strike_out(alert)


def strike_out(alert: Alert, secrets: Iterable[str] = ()) -> Alert:
    """The alert with every text fit to be sent: without `secrets` or what looks like one, printable, not too long."""
    known = tuple(secrets)
    texts = {name: text for name, text in asdict(alert).items() if text and name != "kind"}
    cleaned: dict[str, Any] = {name: _clean(text, known) for name, text in texts.items()}
    return replace(alert, **cleaned)


def describe_served(home: Home) -> str:
    """What readers see; whatever is wrong with the warehouse is said, not raised: the alert matters more."""
    try:
        served = find_served(home)
    except Exception as error:
        logger.debug("what is served cannot be told", exc_info=error)
        return f"nobody knows: {error}"
    if not served:
        return "nothing: no night has published here yet"
    as_of = f"{served['as_of']:%Y-%m-%d %H:%M} UTC" if served["as_of"] else "an unknown moment"
    return (
        f"the lists of run {served['run_id']}, {served['dataset']} before {as_of}, published "
        f"{served['finished_at']:%Y-%m-%d %H:%M} UTC; they stay"
    )


def find_next(kind: Kind, home: Home, run: Run | None, flow: str = "nightly") -> str:
    """What to type; docs/operations.md says more of each."""
    where = f"--home {shlex.quote(str(home.root))}"
    log = f"less {shlex.quote(str(run.log))}" if run else f"recsys runs --limit 5 {where}"
    night = f"recsys nightly {where}{_options(run)}"
    again = night if flow in ("nightly", "watch") else f"recsys {flow} {where}, with its options"
    goes_on = f"{again} (goes on after the last step that was done)" if flow in GO_ON else again
    steps: dict[Kind, str] = {
        "failed": f"{log}; put that right; {goes_on}",
        "crashed": goes_on,
        "data refused": f"recsys check {where}; mend the source, or set the limit that the reason names; {again}",
        "held back": f"less {shlex.quote(str(run.gate))}; {night} --force-publish, if you know better" if run else log,
        "late": f"recsys status {where}; systemctl status recsys-server recsys-worker; {again}",
        "test": "nothing",
    }
    return steps[kind]


def _options(run: Run | None) -> str:
    """The options that a run was started with: with others, the next one would be another night, of other data. None
    where its settings cannot be read: the alert matters more.
    """
    try:
        given = read_json(run.config) if run else {}
    except (OSError, ValueError):
        return ""
    options = {"--source": given.get("source"), "--model": given.get("model"), "--as-of": given.get("as_of"),
               "--n": given.get("n"), "--seed": given.get("seed")}  # fmt: skip
    return "".join(f" {name} {shlex.quote(str(value))}" for name, value in options.items() if value is not None)


def _clean(text: str, secrets: Iterable[str]) -> str:
    words = "\n".join(printable(line) for line in scrub(text, secrets).splitlines())
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}…"
