"""Every knob of a night, with its unit and its reason.

Only `flows/`, `deployments/` and the command line build a `Settings`; a function in `recsys/` takes its own part.
A value comes from the command line, else from the environment (`RECSYS_N=20`, `RECSYS_CHECK__MAX_BAD_SHARE=0.02`),
else from here.
"""

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

ModelName = Literal["auto", "ordinal", "softmax"]
DeviceName = Literal["auto", "cpu", "cuda"]


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CheckConfig(Config):
    """What `check_ratings` lets through."""

    max_bad_share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of a table's rows that may be quarantined before the night stops. A broken export breaks "
        "far more than 1%; one bad row in a thousand should not cost a night.",
    )
    min_ratings: int = Field(
        500, ge=1, description="Fewer ratings than this cannot train or test anything: the source is not what it says."
    )


class SplitConfig(Config):
    """How ratings are parted. Both shares are of the ratings at hand, drawn at random by seed."""

    holdout_share: float = Field(0.25, gt=0, lt=1, description="Share held out; the write-ups hold out a quarter.")
    validation_share: float = Field(
        0.1, gt=0, lt=1, description="Share of the remaining ratings on which networks and epochs are chosen."
    )


class RankConfig(Config):
    """How candidates are found and ordered."""

    ease_l2: float = Field(
        500.0, gt=0, description="Ridge of the item-item regression (EASE); 500 is the published value for MovieLens."
    )
    rating_weight: float = Field(
        2.0,
        ge=0,
        description="Weight of log expected stars beside log EASE score: how much quality counts beside affinity.",
    )
    candidates: int = Field(
        300, ge=1, description="Movies per user that EASE hands to the rating network; at least n are always taken."
    )
    relevant_from: float = Field(4.0, description="Stars from which a holdout rating counts as relevant in NDCG.")


class GateConfig(Config):
    """When tonight's model may replace last night's table."""

    max_mae_median: float = Field(
        0.9, gt=0, description="Holdout MAE in stars above which nothing is published: worse than a constant guess."
    )
    must_beat_bias: bool = Field(
        True, description="Refuse a network whose holdout RMSE is not below that of damped user and movie biases."
    )


class Settings(BaseSettings):
    """One night. Frozen; written to the run's config.json."""

    model_config = SettingsConfigDict(
        env_prefix="RECSYS_", env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True
    )

    source: str = Field(
        "ml-100k", description="Dataset name, local archive or directory, or synthetic:<users>x<movies>x<ratings>."
    )
    home: Path = Field(Path("data"), description="Folder of archives, snapshots, runs and warehouse.duckdb.")
    model: ModelName = Field("auto", description="Network to train; auto takes the better one on validation.")
    as_of: datetime | None = Field(
        None, description="Only ratings before this moment exist for the run; default: the end of the data."
    )
    n: int = Field(10, ge=1, le=1000, description="Movies per user in the published list.")
    seed: int = Field(0, ge=0, lt=2**31, description="Seeds the split and the network.")
    device: DeviceName = Field("auto", description="Where networks train; auto takes a GPU if there is one.")
    check: CheckConfig = CheckConfig()
    split: SplitConfig = SplitConfig()
    rank: RankConfig = RankConfig()
    gate: GateConfig = GateConfig()

    def config_hash(self) -> str:
        """12 hexadecimal digits naming everything that shapes the result except the data and where they lie."""
        shaping = self.model_dump(mode="json", exclude={"source", "home", "as_of"})
        return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:12]
