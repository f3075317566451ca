"""Where everything lives below `--home`: every path of the project has its one home here."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

RUN_ID = "%Y%m%dT%H%M%SZ"  # a run is named by the moment it began, UTC, so that names sort by time


@dataclass(frozen=True)
class Home:
    """The folder given by `--home`; docs/contract.md has its tree."""

    root: Path

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
        """What each file of a directory of drops was read as, named by its content, so that it is read once."""
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
        """Trainings under way, or killed: one file each, removed when it ends."""
        return self.root / "checkpoints"

    @property
    def comparisons(self) -> Path:
        """What `recsys compare` found: one folder each, named as runs are."""
        return self.root / "comparisons"

    @property
    def tuning(self) -> Path:
        """Searches of `recsys tune`, one folder each: every trial, and the best config so far."""
        return self.root / "tuning"

    @property
    def warehouse(self) -> Path:
        """The DuckDB file that consumers open; always a complete, audited one."""
        return self.root / "warehouse.duckdb"

    def run(self, run_id: str) -> "Run":
        """The run of this name, whether its folder is still there or not."""
        started_at = datetime.strptime(run_id.partition("-")[0], RUN_ID).replace(tzinfo=UTC)
        return Run(run_id, started_at, self)

    @property
    def lock(self) -> Path:
        """Held by the one night that runs on this home."""
        return self.root / ".night.lock"

    @property
    def told(self) -> Path:
        """Of which missing night people were told last."""
        return self.root / ".late.json"

    @property
    def holder(self) -> Path:
        """Who holds the lock, for the words of a refusal."""
        return self.root / ".night.json"


@dataclass(frozen=True)
class Run:
    """One night: its name and its folder. `run_id` is its start in UTC, e.g. `20261121T030000Z`: it sorts by time."""

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
        """Everything that the run follows from; one with the same inputs goes on with it if it does not end well."""
        return self.folder / "inputs.json"

    @property
    def ended(self) -> Path:
        """How the run ended; not there while it runs, and if it was killed."""
        return self.folder / "ended.json"

    @property
    def underway(self) -> Path:
        """The step that it is in."""
        return self.folder / "underway.json"

    @property
    def results(self) -> Path:
        """What each finished step returned; gone when the night ends well."""
        return self.folder / "results"

    @property
    def validation(self) -> Path:
        """What the checks found: results, quarantine.parquet, Data Docs."""
        return self.folder / "validation"

    @property
    def findings(self) -> Path:
        """What each rule found, and whether the data were refused."""
        return self.validation / "result.json"

    @property
    def quarantine(self) -> Path:
        """The refused lines, also when the night was refused."""
        return self.validation / "quarantine.parquet"

    @property
    def data_docs(self) -> Path:
        return self.validation / "data_docs"

    @property
    def checked(self) -> Path:
        """The admitted rows of the tables of which not all were admitted."""
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
        """Weights as safetensors beside meta.json, one sub-folder per fit."""
        return self.folder / "model"

    @property
    def choice(self) -> Path:
        """Which network validation chose, and what every candidate scored there."""
        return self.model / "choice.json"

    @property
    def ranker(self) -> Path:
        """What orders tonight's lists beside the network: weights that validation taught, and the retrievers."""
        return self.folder / "ranker"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.json"

    @property
    def gate(self) -> Path:
        """What the gate found: the champion, or why there is none to compare, and what held the model back."""
        return self.folder / "gate.json"

    @property
    def steps(self) -> Path:
        """Seconds of each finished step."""
        return self.folder / "steps.json"

    @property
    def log(self) -> Path:
        return self.folder / "night.log"

    @property
    def recommendations(self) -> Path:
        """Tonight's lists before they are published."""
        return self.folder / "recommendations.parquet"

    @property
    def served(self) -> Path:
        """The tables that this run published, as Parquet files: what a roll-back puts back."""
        return self.folder / "served"

    @property
    def known(self) -> Path:
        """What the audit of tonight's lists reads beside them."""
        return self.folder / "audit"

    @property
    def audit_docs(self) -> Path:
        """Data Docs of the audit."""
        return self.known / "data_docs"

    @property
    def default_recommendations(self) -> Path:
        """Tonight's lists for users the model does not know, before they are published."""
        return self.folder / "default_recommendations.parquet"

    @property
    def similar_movies(self) -> Path:
        """Tonight's similar movies before they are published."""
        return self.folder / "similar_movies.parquet"
