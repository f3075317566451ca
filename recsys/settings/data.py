"""Settings of the steps up to the split: snapshots, checks and their limits, the split itself."""

from pydantic import Field

from recsys.settings.names import Config, Share, SplitKind


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
