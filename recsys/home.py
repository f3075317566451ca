"""Every path below `--home`."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

RUN_ID = "%Y%m%dT%H%M%SZ"  # a run is named after its start in UTC
RUN_NAME = re.compile(r"\d{8}T\d{6}Z(-[0-9a-f]+)?(-check)?")


def is_run_name(name: str) -> bool:
    """Whether a run of a night or of a check may have this name."""
    try:
        datetime.strptime(name.partition("-")[0], RUN_ID)
    except ValueError:
        return False
    return RUN_NAME.fullmatch(name) is not None


@dataclass(frozen=True)
class Home:
    """The folder given by `--home`; docs/contract.md shows its tree."""

    root: Path

    def create(self) -> None:
        """Creates the folder if it is missing. Only its owner and their group may read it, as it has personal data."""
        self.root.mkdir(mode=0o750, parents=True, exist_ok=True)

    @property
    def archives(self) -> Path:
        """Archives as fetched, named by dataset."""
        return self.root / "archives"

    @property
    def snapshots(self) -> Path:
        """Immutable Parquet, `<dataset>/<first 12 hex digits of the content's SHA-256>/`."""
        return self.root / "snapshots"

    @property
    def parsed(self) -> Path:
        """Parsed drop files, named by their content, so that each file is parsed only once."""
        return self.root / "parsed"

    @property
    def forgotten(self) -> Path:
        """Users who asked to be forgotten, and when."""
        return self.root / "forgotten.json"

    @property
    def runs(self) -> Path:
        """One folder per run, `<run_id>/`."""
        return self.root / "runs"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints of training runs that are in progress or were killed: one file each, removed at the end."""
        return self.root / "checkpoints"

    @property
    def comparisons(self) -> Path:
        """Results of `recsys compare`: one folder each, named like a run."""
        return self.root / "comparisons"

    @property
    def tuning(self) -> Path:
        """Searches of `recsys tune`, one folder each: all trials, and the best config so far."""
        return self.root / "tuning"

    @property
    def warehouse(self) -> Path:
        """The DuckDB file that consumers open; always complete and audited."""
        return self.root / "warehouse.duckdb"

    def run(self, run_id: str) -> "Run":
        """Returns the run of this name, whether or not its folder still exists."""
        started_at = datetime.strptime(run_id.partition("-")[0], RUN_ID).replace(tzinfo=UTC)
        return Run(run_id, started_at, self)

    def list_runs(self) -> "list[Run]":
        """Returns the runs that have a folder, sorted by name; folders with other names are left out.

        If the clock was wrong once, this is not the order in which they ran; see `recsys.runs.resume.list_newest`.
        """
        return [self.run(path.name) for path in self._run_folders() if is_run_name(path.name)]

    def list_strays(self) -> list[Path]:
        """Returns the folders below `runs` that were not written by a run, for example a copy of one."""
        return [path for path in self._run_folders() if not is_run_name(path.name)]

    def _run_folders(self) -> list[Path]:
        return sorted(path for path in self.runs.iterdir() if path.is_dir()) if self.runs.is_dir() else []

    @property
    def lock(self) -> Path:
        """The lock of the night that is running on this home."""
        return self.root / ".night.lock"

    @property
    def reserve(self) -> Path:
        """Takes space that is freed for the record of a night if the disk is full."""
        return self.root / ".reserve"

    @property
    def last_late_alert(self) -> Path:
        """The missing night that the last alert reported."""
        return self.root / ".late.json"

    @property
    def holder(self) -> Path:
        """The process that holds the lock. Another process names it in its error message."""
        return self.root / ".night.json"


@dataclass(frozen=True)
class Run:
    """One night: its name and its folder. `run_id` is its start in UTC, e.g. `20261121T030000Z`."""

    run_id: str
    started_at: datetime  # UTC
    home: Home

    @property
    def folder(self) -> Path:
        return self.home.runs / self.run_id

    @property
    def config(self) -> Path:
        """The settings that this run was started with."""
        return self.folder / "config.json"

    @property
    def inputs(self) -> Path:
        """Everything that determines the result. If this run failed, a later run with the same inputs resumes it."""
        return self.folder / "inputs.json"

    @property
    def ended(self) -> Path:
        """The outcome of the run. Missing while the run is in progress, and after a kill."""
        return self.folder / "ended.json"

    @property
    def unrecorded(self) -> Path:
        """The row in `runs` of a run that could not be added to the warehouse; the next run adds it."""
        return self.folder / "unrecorded.json"

    @property
    def underway(self) -> Path:
        """The current step."""
        return self.folder / "underway.json"

    @property
    def digests(self) -> Path:
        """The SHA-256 of the files that a later night or command reads."""
        return self.folder / "digests.json"

    @property
    def results(self) -> Path:
        """The return value of each finished step; removed when the night succeeds."""
        return self.folder / "results"

    @property
    def validation(self) -> Path:
        """Results of the checks, quarantine.parquet and the page of the checks."""
        return self.folder / "validation"

    @property
    def findings(self) -> Path:
        """The result of each rule, and whether the data were refused."""
        return self.validation / "result.json"

    @property
    def quarantine(self) -> Path:
        """The refused lines; written even if the night was refused."""
        return self.validation / "quarantine.parquet"

    @property
    def data_docs(self) -> Path:
        return self.validation / "data_docs"

    @property
    def checked(self) -> Path:
        """The accepted rows of each table that has refused rows."""
        return self.folder / "checked"

    @property
    def split(self) -> Path:
        """train.parquet, validation.parquet and holdout.parquet, disjoint."""
        return self.folder / "split"

    @property
    def vocabulary(self) -> Path:
        return self.folder / "vocabulary"

    @property
    def model(self) -> Path:
        """Weights as safetensors with meta.json, one sub-folder per fit."""
        return self.folder / "model"

    @property
    def validation_model(self) -> Path:
        """The network chosen on validation, trained on train alone."""
        return self.model / "validation"

    @property
    def holdout_model(self) -> Path:
        """The network evaluated on the holdout, trained on all other ratings."""
        return self.model / "holdout"

    @property
    def tonight_model(self) -> Path:
        """The network behind tonight's lists, trained on all ratings."""
        return self.model / "tonight"

    @property
    def choice(self) -> Path:
        """The network chosen on validation, and the result of every candidate."""
        return self.model / "choice.json"

    @property
    def ranker(self) -> Path:
        """The parts of tonight's ranker besides the network: the weights learned on validation, and the retrievers."""
        return self.folder / "ranker"

    @property
    def metrics(self) -> Path:
        """Figures of the networks and lists, one file for each step that measures."""
        return self.folder / "metrics"

    @property
    def gate(self) -> Path:
        """The gate's result: the champion or the reason why there is none, and the conditions that failed."""
        return self.folder / "gate.json"

    @property
    def steps(self) -> Path:
        """Duration of each finished step, in seconds."""
        return self.folder / "steps.json"

    @property
    def log(self) -> Path:
        return self.folder / "night.log"

    @property
    def records(self) -> tuple[Path, ...]:
        """The small files that are kept longer than the models: settings, results, and what a rollback restores."""
        return (
            *(self.config, self.inputs, self.ended, self.unrecorded, self.digests, self.metrics, self.steps, self.log),
            *(self.gate, self.validation, self.served),
        )

    @property
    def recommendations(self) -> Path:
        """Tonight's lists before they are published."""
        return self.folder / "recommendations.parquet"

    @property
    def served(self) -> Path:
        """The tables that this run published, as Parquet files: a rollback restores these."""
        return self.folder / "served"

    @property
    def known(self) -> Path:
        """Files that the audit reads besides tonight's lists."""
        return self.folder / "audit"

    @property
    def audit_docs(self) -> Path:
        """The page of the audit's results."""
        return self.known / "data_docs"

    @property
    def default_recommendations(self) -> Path:
        """Tonight's lists for users unknown to the model, before they are published."""
        return self.folder / "default_recommendations.parquet"

    @property
    def similar_movies(self) -> Path:
        """Tonight's similar movies before they are published."""
        return self.folder / "similar_movies.parquet"
