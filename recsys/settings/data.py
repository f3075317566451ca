"""Settings of the first steps: snapshots, checks and their limits, and the split."""

from pydantic import Field

from recsys.settings.names import Config, Share, SplitKind


class LimitConfig(Config):
    """For each row rule, the share of its table's lines that it may refuse before the night stops."""

    unreadable: Share = Field(
        0.01, description="A truncated download breaks one line; many broken lines mean a different format."
    )
    movie_title: Share = Field(
        0.01, description="A movie without a title cannot be shown, and its ratings are lost with it."
    )
    movie_year: Share = Field(0.01, description="A year outside film history is a typing error, which is rare.")
    movie_genres_known: Share = Field(0.01, description="New genres are rare; many mean that columns are shifted.")
    movie_id_unique: Share = Field(0.01, description="An id is a key; repeated ids mean that files were concatenated.")
    user_id_unique: Share = Field(0.01, description="An id is a key; repeated ids mean that files were concatenated.")
    user_age: Share = Field(
        0.01, description="Some people joke about their age; many invalid ages mean that the column is not the age."
    )
    user_gender: Share = Field(
        0.01, description="The editions have M and F; many other values mean that the column is not the gender."
    )
    rating_on_scale: Share = Field(
        0.005, description="Stars are clicked, not typed, so a value off the scale is damaged or on another scale."
    )
    rated_at_plausible: Share = Field(
        0.005, description="The server sets the time of every rating, so a wrong clock or unit affects many ratings."
    )
    rated_at_isolated: Share = Field(
        0.005,
        description="The rule refuses at most 0.2% of the ratings, so that this limit stops a night only if lower.",
    )
    rating_movie_known: Share = Field(
        0.01, description="More than a few mean that the files of movies and ratings are from different days."
    )
    rating_unique: Share = Field(0.01, description="More than a few mean that a file of ratings was delivered twice.")
    tag_not_empty: Share = Field(
        0.01, description="An empty tag carries no information; many mean that columns are shifted."
    )
    tagged_at_plausible: Share = Field(0.005, description="As for ratings, the server sets the time of every tag.")
    tag_movie_known: Share = Field(
        0.01, description="More than a few mean that the files of movies and tags are from different days."
    )
    link_movie_known: Share = Field(
        0.01, description="More than a few mean that the files of movies and links are from different days."
    )
    link_movie_unique: Share = Field(
        0.01, description="A movie has one line of links; many repeated lines mean that files were concatenated."
    )


class ShiftConfig(Config):
    """Limits for the differences between a snapshot and the last published one.

    A value beyond warn is logged; a value beyond stop ends the night. None disables a limit. Without a published
    snapshot of the same dataset, nothing is compared.
    """

    rating_count_share_warn: float | None = Field(
        0.99,
        ge=0,
        description="Minimum number of ratings, as a share of the previous number. Ratings accumulate, and far fewer "
        "than 1% are retracted.",
    )
    rating_count_share_stop: float | None = Field(
        0.9,
        ge=0,
        description="If a tenth of all ratings is missing, the export was cut or comes from another source.",
    )
    rating_mean_shift_warn: float | None = Field(
        0.05,
        ge=0,
        description="Difference between the two means, in stars. Over years of MovieLens, it is smaller.",
    )
    rating_mean_shift_stop: float | None = Field(
        0.25, ge=0, description="If the mean moves by half a step of the half-star scale, the scale has changed."
    )
    rating_psi_warn: float | None = Field(
        0.1, ge=0, description="Population stability index of the stars. By convention, below 0.1 means no change."
    )
    rating_psi_stop: float | None = Field(0.25, ge=0, description="By convention, above 0.25 means another population.")
    unknown_movie_share_warn: float | None = Field(
        0.002,
        ge=0,
        le=1,
        description="Share of ratings whose movie is not in movies. The published editions have none.",
    )
    unknown_movie_share_stop: float | None = Field(
        0.05,
        ge=0,
        le=1,
        description="Above limits.rating_movie_known, so it takes effect only if that limit is raised.",
    )
    new_user_share_warn: float | None = Field(
        0.2, ge=0, le=1, description="Share of users without earlier ratings. A night adds a few; a year adds a fifth."
    )
    new_user_share_stop: float | None = Field(
        0.5, ge=0, le=1, description="If most users are new, ids were reassigned or the source is another one."
    )
    newest_rating_age_days_warn: float | None = Field(
        None,
        ge=0,
        description="Days between the newest rating and the run. No limit: the published editions are years old.",
    )
    newest_rating_age_days_stop: float | None = Field(
        None, ge=0, description="Set it if ratings arrive daily: an export that stops growing is broken."
    )


class CheckConfig(Config):
    """Limits of `check_ratings`."""

    max_bad_share: Share = Field(
        0.01,
        description="Share of a table's rows that all rules together may quarantine before the night stops. A broken "
        "export has far more than 1% bad rows; one bad row in a thousand should not stop a night.",
    )
    limits: LimitConfig = LimitConfig()
    shift: ShiftConfig = ShiftConfig()
    min_ratings: int = Field(
        500,
        ge=1,
        description="Minimum number of ratings to train and evaluate a model; with fewer, it is the wrong source.",
    )


class SnapshotConfig(Config):
    """Retention of snapshots."""

    keep: int = Field(
        7,
        ge=1,
        description="Number of newest snapshots of a dataset that are kept, including tonight's: a week by default.",
    )


class SplitConfig(Config):
    """The split of ratings: the holdout is taken from all ratings, then validation from the rest in the same way."""

    kind: SplitKind = Field(
        "random",
        description="random draws ratings at random, as most publications do; time holds out the newest ratings, as in "
        "production; last holds out the newest ratings of each user.",
    )
    holdout_share: float = Field(
        0.25, gt=0, lt=1, description="Share of ratings in the holdout; most publications use a quarter."
    )
    validation_share: float = Field(
        0.1, gt=0, lt=1, description="Share of the remaining ratings that is used to choose networks and epochs."
    )
    last_k: int = Field(
        5,
        ge=1,
        description="Number of ratings of each user that `last` holds out, regardless of holdout_share. Users with at "
        "most that many ratings have none in the holdout.",
    )

    @property
    def holdout(self) -> str:
        """Name of the holdout in `metrics`."""
        return "holdout" if self.kind == "random" else f"holdout_{self.kind}"
