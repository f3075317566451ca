"""Every setting of a night, with its unit and its reason.

Only `flows/`, `deployments/` and the command line build a `Settings`; a function in `recsys/` takes its own part.
A value comes from the command line, else from the environment (`RECSYS_N=20`, `RECSYS_CHECK__MAX_BAD_SHARE=0.02`),
else from here.
"""

import hashlib
import json
from datetime import datetime
from pathlib import Path

from pydantic import Field, GetJsonSchemaHandler
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


class Settings(BaseSettings):
    """One night. Frozen; written to the run's config.json."""

    model_config = SettingsConfigDict(
        env_prefix="RECSYS_", env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True
    )

    source: Source = Field(
        "ml-100k", description="Dataset name, local archive or directory, or synthetic:USERSxMOVIESxRATINGS."
    )
    home: Path = Field(Path("data"), description="Folder of archives, snapshots, runs and warehouse.duckdb.")
    model: ModelName = Field("auto", description="Network to train; auto takes the best candidate on validation.")
    candidates: tuple[NetworkName, ...] = Field(
        CANDIDATES, min_length=1, description="Networks that auto tries; each one costs its training."
    )
    config: TunedConfig | None = Field(
        None, description="A network and its config instead of the config that it comes with; `model` is then this one."
    )
    as_of: datetime | SkipJsonSchema[None] = Field(
        None, description="Only ratings before this moment exist for the run; default: the end of the data."
    )
    n: int = Field(10, ge=1, le=1000, description="Movies per user in the published list.")
    seed: int = Field(0, ge=0, lt=2**31, description="Seeds the split and the network.")
    device: DeviceName = Field("auto", description="Where networks train; auto takes a GPU if there is one.")
    resume_hours: float = Field(
        20,
        ge=0,
        description="A night that was killed or failed no longer ago than this is gone on with by the next one that "
        "has the same source, settings and code; 0: every night begins afresh. Less than a day, so that tomorrow's is "
        "a night of its own.",
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
        """What Prefect's form shows, and its server checks: what people change from run to run. All other settings may
        be given as well, and are checked before anything runs.
        """
        schema = as_form(handler.resolve_ref_schema(handler(core)))
        schema["properties"] = {name: schema["properties"][name] for name in IN_FORMS}
        schema["additionalProperties"] = True
        return schema

    def config_hash(self) -> str:
        """12 hexadecimal digits naming everything that shapes the result except the data and where they lie."""
        unshaping = {"source", "home", "as_of", "resume_hours", "snapshots", "audit", "history"}
        shaping = self.model_dump(mode="json", exclude=unshaping)
        return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:12]
