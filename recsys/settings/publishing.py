"""Settings of the last steps: the gate, the audit, and the retention of earlier nights."""

from pydantic import Field

from recsys.settings.names import Config


class GateConfig(Config):
    """Conditions under which tonight's model replaces last night's table; see docs/evaluation.md.

    A regression is the difference by which the champion (the served model) is better on the same holdout. A night is
    held back only if a bootstrap over users shows with confidence that a regression is above its limit.
    """

    max_mae_median: float = Field(
        0.9, gt=0, description="Maximum holdout MAE, in stars. Above the default, a constant prediction is better."
    )
    must_beat_bias: bool = Field(
        True, description="Hold back a network if its holdout RMSE is not below that of damped user and movie biases."
    )
    min_popularity_coverage_ratio: float = Field(
        0.5,
        ge=0,
        description="Minimum coverage@10, relative to lists of the most rated movies. Below it, all users see the same "
        "movies.",
    )
    max_ndcg_below_parts: float = Field(
        0.0,
        ge=0,
        description="Maximum amount by which NDCG@10 of tonight's lists may be below that of the most rated movies and "
        "of EASE alone, with the confidence of false_refusals. Lists that are worse than their own parts are not worth "
        "their cost. Increase it if the lists give up accuracy on purpose (rank.diversity, rank.popularity_penalty).",
    )
    max_mae_regression: float = Field(
        0.005,
        ge=0,
        description="Maximum regression of MAE, in stars. Different seeds differ by up to 0.0025; the bias baseline is "
        "worse by 0.09.",
    )
    max_ndcg_regression: float = Field(
        0.01,
        ge=0,
        description="Maximum regression of NDCG@10. Different seeds differ by up to 0.006; the best single retriever "
        "is worse by 0.035.",
    )
    max_slice_mae_regression: float = Field(
        0.03,
        ge=0,
        description="Maximum regression of MAE in one of about 30 slices (genre, activity, popularity), in stars.",
    )
    min_slice_users: int = Field(
        100, ge=20, description="Slices with fewer users are mostly noise and are not compared."
    )
    min_coverage_ratio: float = Field(
        0.7, ge=0, description="Minimum coverage@10, relative to the champion's. Seeds differ by a few percent."
    )
    best_of: int = Field(
        30,
        ge=1,
        description="Number of published runs with the best of which tonight's is compared, too, so that losses below "
        "the allowances do not add up: within a month of nights, at most one allowance is lost. The best one keeps its "
        "model. 1: only the served run.",
    )
    false_refusals: float = Field(
        0.01,
        ge=0.001,
        le=0.5,
        description="Share of nights that are held back by chance although no regression is above its limit, over all "
        "differences from one model, or from the parts of the lists, together. It is far lower for a model as good as "
        "the champion.",
    )
    force_publish: bool = Field(False, description="Publish regardless of the gate's result. The result is recorded.")


class AuditConfig(Config):
    """Limits for tonight's lists as a whole. If one is exceeded, nothing is published.

    None disables a limit. The first three limits and max_churn compare tonight's lists with the served ones of the same
    dataset, down to the depth that both have. docs/audit.md lists everything that is audited.
    """

    min_rows_share: float | None = Field(
        0.9,
        ge=0,
        description="Minimum number of rows of recommendations, as a share of the served rows. Users rarely disappear: "
        "if a tenth of all lists is missing, users or lists were lost.",
    )
    max_rows_share: float | None = Field(
        2.0,
        gt=0,
        description="Maximum number of rows of recommendations, as a share of the served rows. If there are more than "
        "twice as many, users were delivered twice under different ids. The default is equivalent to that of "
        "check.shift.new_user_share_stop: half of all users are new.",
    )
    max_stranger_rise: float | None = Field(
        0.3,
        ge=0,
        le=1,
        description="Maximum increase in the share of users whose lists come from the default list or from features. "
        "It is 0.1 if a tenth of all users are new and have not rated yet, and 0.3 if ratings are missing.",
    )
    max_top_movie_share: float | None = Field(
        0.95,
        ge=0,
        le=1,
        description="Maximum share of the users with at least ten ratings who have the same movie in the first ten "
        "places of their lists. Popularity alone gives 0.45 on ML-100K, the blend 0.2, and a ranker with one list for "
        "all users nearly 1. Not checked with fewer than 100 such users, or with fewer than ten movies per place.",
    )
    max_churn: float | None = Field(
        0.9,
        ge=0,
        le=1,
        description="Maximum mean share of a user's movies that are no longer in the list. Another seed replaces a "
        "tenth of them, another network with other retrievers two thirds. Nine tenths mean that ids have changed.",
    )
    max_flat_share: float | None = Field(
        0.5,
        ge=0,
        le=1,
        description="Maximum share of users whose scores are all equal: a constant score does not rank anything.",
    )
    max_overshoot: float | None = Field(
        1.0,
        ge=0,
        description="Maximum distance of a rating_hat from the rating scale, as a multiple of the scale's length. "
        "Predictions are not clipped and exceed the scale slightly. If they exceed it by its length, they are not in "
        "stars.",
    )


class HistoryConfig(Config):
    """Retention of earlier nights."""

    runs: int = Field(
        30,
        ge=2,
        description="Number of runs in recommendation_history: those with the latest as_of. The served run is always "
        "kept.",
    )
    models: int = Field(
        3,
        ge=1,
        description="Number of newest runs that keep their models, splits and rankers, including tonight's. The served "
        "run keeps them, too, as tomorrow's champion. On ML-1M they take 100 MB per run.",
    )
    folders: int = Field(
        100,
        ge=1,
        description="Number of newest runs that keep their folder with settings, metrics, log and result pages. Runs "
        "in recommendation_history keep theirs, too.",
    )
