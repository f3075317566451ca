"""Settings of the last steps: the gate, the audit, and what is kept of earlier nights."""

from pydantic import Field

from recsys.settings.names import Config


class GateConfig(Config):
    """When tonight's model may replace last night's table; see docs/evaluation.md.

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
