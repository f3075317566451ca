"""Every setting of a night, with its unit and the reason for its default.

Only `flows/`, `deployments/` and the command line build a `Settings`. A function in `recsys/` takes only the part that
it needs. A value is taken from the command line, else from the environment (`RECSYS_N=20`,
`RECSYS_CHECK__MAX_BAD_SHARE=0.02`), else from the defaults below.
"""

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue, SkipJsonSchema
from pydantic_core import CoreSchema
from pydantic_settings import BaseSettings, SettingsConfigDict

from recsys.forms import Source, as_form
from recsys.settings.data import CheckConfig, LimitConfig, ShiftConfig, SnapshotConfig, SplitConfig
from recsys.settings.lists import AlsConfig, EaseConfig, PopularityConfig, RankConfig, RulesConfig
from recsys.settings.names import (
    CANDIDATES,
    AnyNetworkName,
    Config,
    DeviceName,
    ModelName,
    NetworkName,
    RatingScale,
    RetrieverName,
    Share,
    SplitKind,
)
from recsys.settings.publishing import AuditConfig, GateConfig, HistoryConfig
from recsys.settings.training import TunedConfig, WarmStartConfig

__all__ = [
    "CANDIDATES",
    "AlsConfig",
    "AnyNetworkName",
    "AuditConfig",
    "CheckConfig",
    "Config",
    "DeviceName",
    "EaseConfig",
    "GateConfig",
    "HistoryConfig",
    "LimitConfig",
    "ModelName",
    "NetworkName",
    "PopularityConfig",
    "RankConfig",
    "RatingScale",
    "RetrieverName",
    "RulesConfig",
    "Settings",
    "Share",
    "ShiftConfig",
    "SnapshotConfig",
    "SplitConfig",
    "SplitKind",
    "TunedConfig",
    "WarmStartConfig",
]

IN_FORMS = ("source", "model", "as_of", "n", "seed", "device", "gate", "home")


def _check_home(home: Path) -> Path:
    if "?" in str(home.absolute()):
        raise ValueError(f"{home.absolute()} has a question mark, and DuckDB cannot write a file at such a path")
    return home


class Settings(BaseSettings):
    """The settings of one night. Immutable; written to the run's config.json."""

    model_config = SettingsConfigDict(
        env_prefix="RECSYS_", env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True
    )

    source: Source = Field(
        "ml-100k", description="Name of a dataset, path of an archive or directory, or synthetic:USERSxMOVIESxRATINGS."
    )
    home: Annotated[Path, AfterValidator(_check_home)] = Field(
        Path("data"), description="Folder for archives, snapshots, runs and warehouse.duckdb."
    )
    rating_scale: RatingScale = Field(
        "auto",
        description="Stars of a source in our own schema: whole, half, or auto, which takes half stars if more than "
        "0.5% of the ratings have them. Ratings off the scale are quarantined. The published editions have their own.",
    )
    model: ModelName = Field(
        "auto", description="Network to train; auto picks the candidate with the best validation result."
    )
    candidates: tuple[NetworkName, ...] = Field(
        CANDIDATES, min_length=1, description="Networks that auto compares; each one is trained."
    )
    config: TunedConfig | None = Field(
        None,
        description="A network, with a config that replaces its default. `model` must be auto or this network.",
    )
    as_of: datetime | SkipJsonSchema[None] = Field(
        None, description="The run uses only ratings before this moment. Default: the end of the data."
    )
    n: int = Field(10, ge=1, le=1000, description="Movies in the published list of each user.")
    seed: int = Field(0, ge=0, lt=2**31, description="Random seed of the split and of the network.")
    device: DeviceName = Field("auto", description="Device that trains networks; auto uses a GPU if there is one.")
    processes: int = Field(
        2,
        ge=1,
        le=2,
        description="Networks that are trained at the same time, each on one core. 2 needs the memory of two "
        "trainings; a GPU and sources with fewer than 50,000 ratings always train one.",
    )
    resume_hours: float = Field(
        20,
        ge=0,
        description="A night that began at most this many hours ago, and was killed or failed, is resumed by the next "
        "one with the same source, settings and code. 0: nights are never resumed. Keep it below 24, so that "
        "tomorrow's night starts from the beginning.",
    )
    snapshots: SnapshotConfig = SnapshotConfig()
    check: CheckConfig = CheckConfig()
    split: SplitConfig = SplitConfig()
    rank: RankConfig = RankConfig()
    rules: RulesConfig = RulesConfig()
    warm_start: WarmStartConfig = WarmStartConfig()
    gate: GateConfig = GateConfig()
    audit: AuditConfig = AuditConfig()
    history: HistoryConfig = HistoryConfig()

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema of Prefect's form: the settings that people change from run to run. All other settings are
        accepted, too, and are validated before anything runs.
        """
        schema = as_form(handler.resolve_ref_schema(handler(core)))
        schema["properties"] = {name: schema["properties"][name] for name in IN_FORMS}
        schema["additionalProperties"] = True
        return schema

    def config_hash(self) -> str:
        """Hash of every setting that affects the result, except for source, home and as_of. 12 hexadecimal digits."""
        without_effect = {"source", "home", "as_of", "resume_hours", "snapshots", "audit", "history", "processes"}
        settings = self.model_dump(mode="json", exclude=without_effect)
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
