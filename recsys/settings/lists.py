"""Settings of the lists: retrievers, ranking, and the rules for what may be shown."""

from pydantic import Field

from recsys.settings.names import Config, RetrieverName


class EaseConfig(Config):
    """EASE: an item-item model of which user rated which movie."""

    l2: float | None = Field(
        None, gt=0, description="L2 penalty of the regression. None: 500 for 100,000 ratings, 1,000 for a million."
    )
    max_items: int = Field(
        12_000,
        ge=2,
        description="Number of most rated movies that are regressed on each other; all other movies are regressed "
        "on these. Three square float32 matrices of this size are in memory at once: 1.7 GB at the default.",
    )


class AlsConfig(Config):
    """Implicit ALS: a matrix factorisation of which user rated which movie."""

    embedding_dim: int | None = Field(
        None, ge=1, description="Length of a vector. None: 24 for 100,000 ratings, 96 for a million, at most 128."
    )
    unobserved: float | None = Field(
        None,
        gt=0,
        description="Weight of a pair without a rating; a rated pair has weight 1. None: 0.2 for 100,000 ratings, 0.1 "
        "for a million.",
    )
    l2: float = Field(0.01, gt=0, description="L2 penalty on a vector, per rating of its user or movie.")
    opinion: float = Field(
        0.4,
        ge=0,
        description="Extra weight of a rating per star above the user's mean; below it, less weight. 0: equal weights.",
    )
    iterations: int = Field(8, ge=1, description="Rounds; each one solves for the users, then for the movies.")
    init_std: float = Field(0.1, gt=0, description="Standard deviation of the initial vectors.")


class PopularityConfig(Config):
    """The most rated movies, among all users and among users with the same gender, age and occupation."""

    l2: float = Field(
        30.0,
        gt=0,
        description="L2 penalty on the effect of a user property, such as gender=F, in users: an effect that is "
        "observed in this many users is shrunk by half.",
    )


class RankConfig(Config):
    """Retrieval and ranking of candidates."""

    retrievers: tuple[RetrieverName, ...] = Field(
        ("ease", "als", "popularity"),
        min_length=1,
        description="Models that propose movies; their weights in the blend are learned on validation. triplet, "
        "triplet_bpr and sequence are networks that are trained for this purpose only.",
    )
    ease: EaseConfig = EaseConfig()
    als: AlsConfig = AlsConfig()
    popularity: PopularityConfig = PopularityConfig()
    candidates: int = Field(
        300, ge=1, description="Movies per user that the rating network scores; never fewer than n."
    )
    diversity: float = Field(
        0.0, ge=0, lt=1, description="0 ranks by score alone; higher values favour movies of different genres."
    )
    popularity_penalty: float = Field(
        0.0,
        ge=0,
        description="Factor of the logarithm of a movie's number of ratings, which is subtracted from its score. "
        "Higher values favour less popular movies.",
    )
    n_similar: int = Field(20, ge=1, le=1000, description="Similar movies published for each movie.")
    weights_doubt_users: float = Field(
        50.0,
        ge=0,
        description="Number of validation users at which the learned weights of the blend count as much as the prior "
        "weights. A split by time may leave only a few dozen users, from which little can be learned.",
    )
    relevant_from: float = Field(4.0, description="Stars from which a rating counts as relevant in a list.")


class RulesConfig(Config):
    """Rules on which movies may be shown to which users; see docs/rules.md.

    Each entry of blocked, eligible and caps is the path of a CSV or Parquet file, or a SQL select from tonight's
    movies, users and ratings.
    """

    min_ratings: int = Field(
        0,
        ge=0,
        description="Ratings that a movie needs to be shown. At 0, a movie without ratings may be shown if its "
        "features are known.",
    )
    blocked: tuple[str, ...] = Field(
        (),
        description="Movies that are never shown. Columns: (movie_id) or (genre) for all users, (user_id, movie_id) or "
        "(user_id, genre) for single users.",
    )
    eligible: tuple[str, ...] = Field(
        (),
        description="If not empty, only these movies are shown. Column: (movie_id). With several entries, a movie has "
        "to be in all of them.",
    )
    caps: tuple[str, ...] = Field(
        (),
        description="Maximum number of movies of a group in one list. Columns: (movie_id, group_name, at_most), with "
        "one row per movie and group.",
    )
    max_seconds: float = Field(
        60.0, gt=0, description="Time limit of one select, in seconds. Counting all 32M ratings takes seconds."
    )
    max_rows: int = Field(
        10_000_000,
        ge=1,
        description="Maximum number of rows of one entry. A row takes about 20 bytes of memory for the whole night.",
    )
