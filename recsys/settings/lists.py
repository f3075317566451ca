"""Settings of the lists: retrievers, ranking, and the rules of what may be shown."""

from pydantic import Field

from recsys.settings.names import Config, RetrieverName


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
