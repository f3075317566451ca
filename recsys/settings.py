"""Every knob of a night, with its unit and its reason.

Only `flows/`, `deployments/` and the command line build a `Settings`; a function in `recsys/` takes its own part.
A value comes from the command line, else from the environment (`RECSYS_N=20`, `RECSYS_CHECK__MAX_BAD_SHARE=0.02`),
else from here.
"""

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue, SkipJsonSchema
from pydantic_core import CoreSchema
from pydantic_settings import BaseSettings, SettingsConfigDict

from recsys.forms import Source, as_form

NetworkName = Literal[  # those that predict ratings; recsys compare trains the others too
    "ordinal",
    "ordinal_basic",
    "softmax",
    "dot",
    "dot_sgd",
    "dot_bias",
    "dot_bias_one_cycle",
    "mlp",
    "mlp_deep",
    "recurrent",
    "recurrent_gru",
    "wide_deep",
    "nmf",
    "hybrid",
]
ModelName = Literal["auto", NetworkName]
RetrieverName = Literal["ease", "als", "popularity", "triplet", "triplet_bpr", "sequence"]
AnyNetworkName = Literal[NetworkName, "triplet", "triplet_bpr", "sequence"]
CANDIDATES: tuple[NetworkName, ...] = ("ordinal", "softmax")
SplitKind = Literal["random", "time", "last"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]
Share = Annotated[float, Field(ge=0, le=1)]
IN_FORMS = ("source", "model", "as_of", "n", "seed", "device", "gate", "home")


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return as_form(handler.resolve_ref_schema(handler(core)))


class LimitConfig(Config):
    """Share of its table's lines that one row rule may refuse before the night stops; a field for each rule."""

    unreadable: Share = Field(0.01, description="A cut transfer tears one line; more are another format.")
    movie_title: Share = Field(0.01, description="A movie without a title cannot be shown, and its ratings go with it.")
    movie_year: Share = Field(0.01, description="A year outside film history is a typing error, and those are rare.")
    movie_genres_known: Share = Field(0.01, description="A new genre is news; many are a column that has slipped.")
    movie_id_unique: Share = Field(0.01, description="An id is a key: repeated ones are a file pasted to another.")
    user_id_unique: Share = Field(0.01, description="An id is a key: repeated ones are a file pasted to another.")
    user_age: Share = Field(0.01, description="People joke about their age; a whole table of them is another column.")
    user_gender: Share = Field(0.01, description="The editions know M and F; anything else is another column.")
    rating_on_scale: Share = Field(
        0.005, description="Stars are clicked, not typed: what is off the scale was damaged, or is of another scale."
    )
    rated_at_plausible: Share = Field(
        0.005, description="The server stamps every rating: a clock or a unit that is wrong is wrong for many."
    )
    rating_movie_known: Share = Field(0.01, description="More than a few: movies and ratings are of different days.")
    rating_unique: Share = Field(0.01, description="More than a few: a file of ratings was delivered twice.")
    tag_not_empty: Share = Field(0.01, description="An empty tag says nothing; many are a column that has slipped.")
    tagged_at_plausible: Share = Field(0.005, description="As for ratings: the server stamps every tag.")
    tag_movie_known: Share = Field(0.01, description="More than a few: movies and tags are of different days.")
    link_movie_known: Share = Field(0.01, description="More than a few: movies and links are of different days.")
    link_movie_unique: Share = Field(
        0.01, description="A movie has one line of links; repeated ones are a pasted file."
    )


class ShiftConfig(Config):
    """How far a snapshot may be from the one published last: beyond warn it is told, beyond stop the night stops.

    None sets no limit. Without a published snapshot of the same dataset there is nothing to compare.
    """

    rating_count_share_warn: float | None = Field(
        0.99, ge=0, description="Ratings, as a share of those before. They only come; retractions cost far below 1%."
    )
    rating_count_share_stop: float | None = Field(
        0.9,
        ge=0,
        description="A tenth of all ratings never goes by itself: the export was cut, or is of another source.",
    )
    rating_mean_shift_warn: float | None = Field(
        0.05, ge=0, description="Stars between the two means, up or down. Years of MovieLens move it by less."
    )
    rating_mean_shift_stop: float | None = Field(
        0.25, ge=0, description="Half a step of the half-star scale for every rating: the stars mean something else."
    )
    rating_psi_warn: float | None = Field(
        0.1, ge=0, description="Population stability index of the stars; below 0.1 is customarily called no change."
    )
    rating_psi_stop: float | None = Field(0.25, ge=0, description="From 0.25 on it is customarily another population.")
    unknown_movie_share_warn: float | None = Field(
        0.002, ge=0, le=1, description="Share of ratings whose movie is not in movies. The editions have none."
    )
    unknown_movie_share_stop: float | None = Field(
        0.05, ge=0, le=1, description="Above limits.rating_movie_known, which stops first unless it was raised."
    )
    new_user_share_warn: float | None = Field(
        0.2, ge=0, le=1, description="Share of users who had not rated before. A night brings a few, a year a fifth."
    )
    new_user_share_stop: float | None = Field(
        0.5, ge=0, le=1, description="More strangers than acquaintances: ids were given anew, or it is another source."
    )
    newest_rating_age_days_warn: float | None = Field(
        None,
        ge=0,
        description="Days from the newest rating to the run. No limit: the published editions are years old.",
    )
    newest_rating_age_days_stop: float | None = Field(
        None, ge=0, description="Set it where ratings come daily: an export that stands still is a broken one."
    )


class CheckConfig(Config):
    """What `check_ratings` lets through."""

    max_bad_share: Share = Field(
        0.01,
        description="Share of a table's rows that may be quarantined, by all rules together, before the night stops. A "
        "broken export breaks far more than 1%; one bad row in a thousand should not cost a night.",
    )
    limits: LimitConfig = LimitConfig()
    shift: ShiftConfig = ShiftConfig()
    min_ratings: int = Field(
        500, ge=1, description="Fewer ratings than this cannot train or test anything: the source is not what it says."
    )


class SnapshotConfig(Config):
    """What stays of the data themselves."""

    keep: int = Field(
        7,
        ge=1,
        description="Newest snapshots of a dataset that stay on disk, tonight's included: a week to look back on.",
    )


class SplitConfig(Config):
    """How ratings are parted: the holdout from all of them, the validation part from the rest in the same way."""

    kind: SplitKind = Field(
        "random",
        description="random draws ratings by seed, as most write-ups do; time holds out the newest ones, as nights "
        "meet them; last holds out each user's newest ones.",
    )
    holdout_share: float = Field(0.25, gt=0, lt=1, description="Share held out; the write-ups hold out a quarter.")
    validation_share: float = Field(
        0.1, gt=0, lt=1, description="Share of the remaining ratings on which networks and epochs are chosen."
    )
    last_k: int = Field(
        5,
        ge=1,
        description="Ratings of each user that `last` holds out, whatever the share; who has no more keeps them all.",
    )

    @property
    def holdout(self) -> str:
        """What the holdout is called in `metrics`."""
        return "holdout" if self.kind == "random" else f"holdout_{self.kind}"


class EaseConfig(Config):
    """The item-item model of who rated what."""

    l2: float | None = Field(
        None, gt=0, description="Ridge of the regression; None: 500 for 100,000 ratings, 1,000 for a million."
    )
    max_items: int = Field(
        12_000,
        ge=2,
        description="Rated movies regressed on each other, the most rated first: three square float32 matrices of so "
        "many are in memory at once, 1.7 GB. In larger catalogues the others are regressed on these.",
    )


class AlsConfig(Config):
    """The matrix factorisation of who rated what."""

    embedding_dim: int | None = Field(
        None, ge=1, description="Length of a vector; None: 24 for 100,000 ratings, 96 for a million, 128 at most."
    )
    unobserved: float | None = Field(
        None,
        gt=0,
        description="Weight of a pair that nobody rated beside 1 for one that was; None: 0.2 for 100,000 ratings, 0.1 "
        "for a million.",
    )
    l2: float = Field(0.01, gt=0, description="Penalty on a vector's square, for each rating of its row.")
    opinion: float = Field(
        0.4,
        ge=0,
        description="How much more a rating counts for each star above the user's mean, and less below; 0: all alike.",
    )
    iterations: int = Field(8, ge=1, description="Rounds of solving for the movies and for the users.")
    init_std: float = Field(0.1, gt=0, description="Length of the vectors that it begins from.")


class PopularityConfig(Config):
    """What is rated most, by everybody and by users alike in gender, age and occupation."""

    l2: float = Field(30.0, gt=0, description="Users' worth of doubt that a property of users goes with a movie.")


class RankConfig(Config):
    """How candidates are found and ordered."""

    retrievers: tuple[RetrieverName, ...] = Field(
        ("ease", "als", "popularity"),
        min_length=1,
        description="Models that propose movies, blended by weights that validation teaches. triplet, triplet_bpr and "
        "sequence are trained for it.",
    )
    ease: EaseConfig = EaseConfig()
    als: AlsConfig = AlsConfig()
    popularity: PopularityConfig = PopularityConfig()
    candidates: int = Field(
        300, ge=1, description="Movies per user that are handed to the rating network; at least n are always taken."
    )
    diversity: float = Field(
        0.0, ge=0, lt=1, description="0 takes the best movies; towards 1, ever more the ones of other genres."
    )
    popularity_penalty: float = Field(
        0.0, ge=0, description="Taken off a score for each e-fold of a movie's ratings, so that fewer are shown to all."
    )
    n_similar: int = Field(20, ge=1, le=1000, description="Similar movies published for each movie.")
    weights_doubt_users: float = Field(
        50.0,
        ge=0,
        description="How many users of validation it takes to be believed against the weights that are expected of the "
        "blend: a split by time may have a few dozen, and they teach little.",
    )
    relevant_from: float = Field(4.0, description="Stars from which a rating counts as relevant in a list.")


class RulesConfig(Config):
    """Which movies may be shown to whom; see docs/rules.md.

    Each entry of blocked, eligible and caps is the path of a CSV or Parquet file, or a SQL select from movies, users
    and ratings as they are known tonight.
    """

    min_ratings: int = Field(
        0,
        ge=0,
        description="Ratings a movie needs to be shown; at 0 one that nobody has rated yet may be, if enough is known "
        "of it to place it.",
    )
    blocked: tuple[str, ...] = Field(
        (), description="Never shown: (movie_id) or (genre) to anybody, (user_id, movie_id) or (user_id, genre) to one."
    )
    eligible: tuple[str, ...] = Field(
        (), description="Only these are shown: (movie_id). Of several entries each has to name a movie."
    )
    caps: tuple[str, ...] = Field(
        (), description="At most so many of a group in one list: (movie_id, group_name, at_most), a row per membership."
    )
    max_seconds: float = Field(
        60.0, gt=0, description="How long one select may run. All 32M ratings are counted in seconds."
    )
    max_rows: int = Field(
        10_000_000, ge=1, description="Rows of one entry: each is held in memory, in some 20 bytes, all night."
    )


class TunedConfig(Config):
    """A network with a config of its own, as `recsys tune` writes it."""

    model: AnyNetworkName
    config: dict[str, Any] = Field(description="Every field of the network's config, `training` included.")


class WarmStartConfig(Config):
    """Whether the network of tonight's lists begins where the one being served ended, and how it goes on from there.

    The network that is judged on the holdout always begins from scratch: last night's has learned from that holdout.
    """

    enabled: bool = Field(
        False, description="Off by default: a warm night depends on the nights before, a cold one on its inputs alone."
    )
    epoch_share: float = Field(
        0.3, gt=0, le=1, description="Epochs, as a share of those that a start from scratch would take; at least one."
    )
    learning_rate_share: float = Field(
        0.2, gt=0, le=1, description="Learning rate as a share of the network's own, which would undo what was learned."
    )


class GateConfig(Config):
    """When tonight's model may replace last night's table; see docs/gate.md.

    A regression is what the model that is served does better on the same holdout. It holds a night back only where the
    bootstrap over users is sure of more than is allowed.
    """

    max_mae_median: float = Field(
        0.9, gt=0, description="Holdout MAE in stars above which nothing is published: worse than a constant guess."
    )
    must_beat_bias: bool = Field(
        True, description="Refuse a network whose holdout RMSE is not below that of damped user and movie biases."
    )
    min_popularity_coverage_ratio: float = Field(
        0.5,
        ge=0,
        description="Least coverage@10, over that of lists of the most rated movies: with less, all see the same.",
    )
    max_mae_regression: float = Field(
        0.005,
        ge=0,
        description="Stars of MAE. Another seed moves it by up to 0.0025; plain biases are 0.09 away.",
    )
    max_ndcg_regression: float = Field(
        0.01,
        ge=0,
        description="NDCG@10 of lists. Another seed moves it by up to 0.006; the best retriever alone is 0.035 away.",
    )
    max_slice_mae_regression: float = Field(
        0.03,
        ge=0,
        description="Stars of MAE in any genre, activity or popularity: the worst of some thirty, so more is allowed.",
    )
    min_slice_users: int = Field(100, ge=20, description="A slice of fewer users is mostly chance, and not compared.")
    min_coverage_ratio: float = Field(
        0.7, ge=0, description="Least coverage@10, over the champion's. Seeds move it by a few percent."
    )
    false_refusals: float = Field(
        0.01,
        ge=0.001,
        le=0.5,
        description="Share of nights that chance may hold back though their model is worse by exactly what is allowed; "
        "over all comparisons together. It is far rarer for one that is as good as the champion.",
    )
    force_publish: bool = Field(False, description="Publish whatever the gate says, and record what it said.")


class AuditConfig(Config):
    """How far tonight's lists as a whole may be from what lists are like: beyond, nothing is published.

    None sets no limit. The first three and max_churn compare with the lists that are served, if they are of the same
    data set; lists of another depth only as far down as both go. docs/audit.md lists all that is audited.
    """

    min_rows_share: float | None = Field(
        0.9,
        ge=0,
        description="Rows of recommendations, as a share of those before. Users stay; a tenth of all lists goes only "
        "if users or their lists were lost on the way.",
    )
    max_rows_share: float | None = Field(
        2.0,
        gt=0,
        description="The same upwards: more than twice the rows are a table of users delivered twice under other ids. "
        "check.shift.new_user_share_stop lets no more than twice the users pass.",
    )
    max_stranger_rise: float | None = Field(
        0.3,
        ge=0,
        le=1,
        description="How much the share of users served by default or features may rise. A night in which all new "
        "users, a tenth, have not rated yet raises it by 0.1; 0.3 more are ratings that did not come along.",
    )
    max_top_movie_share: float | None = Field(
        0.95,
        ge=0,
        le=1,
        description="Share of users of ten ratings or more in whose first ten places the same movie stands. Popularity "
        "alone gives 0.45 on ML-100K, our blend 0.2; a ranker that shows everybody the same comes near 1. Not judged "
        "for fewer than 100 such users, or fewer than ten times as many movies as places.",
    )
    max_churn: float | None = Field(
        0.9,
        ge=0,
        le=1,
        description="Mean share of a user's movies of before that are gone. Another seed changes a tenth, another "
        "network with other retrievers two thirds; nine in ten are lists of other users, or of movies numbered anew.",
    )
    max_flat_share: float | None = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of users all of whose scores are equal: a ranker that returns a constant orders nothing.",
    )
    max_overshoot: float | None = Field(
        1.0,
        ge=0,
        description="How far the farthest rating_hat is outside of the rating scale, in lengths of the scale. Expected "
        "stars are not clipped and leave it by a fraction; by its whole length they are no stars.",
    )


class HistoryConfig(Config):
    """What the warehouse remembers of earlier nights."""

    runs: int = Field(
        30,
        ge=2,
        description="Runs whose lists recommendation_history keeps, those of the latest as_of. What is being served "
        "stays however old it is.",
    )
    models: int = Field(
        3,
        ge=1,
        description="Newest runs whose folders keep their models, splits and rankers, tonight's included; that of the "
        "run being served stays: it is tomorrow's champion. On ML-1M they take 100 MB a run.",
    )
    folders: int = Field(
        100,
        ge=1,
        description="Newest runs that keep a folder at all, with settings, metrics, log and Data Docs. Those that are "
        "remembered keep theirs.",
    )


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
