"""Explains a movie's place in a user's list: the parts of its score, its expected stars, and the reasons for it.

Uses the ranker that is saved in the folder of the published run.

Shapes: B = 1 user, I items, C = 1 candidate, P parts.
"""

from dataclasses import dataclass
from typing import Any

import polars as pl
import torch
from torch import Tensor

from recsys.ask import lookup
from recsys.encode.vocabulary import Vocabulary
from recsys.home import Home, Run
from recsys.models import Pairs
from recsys.rank.common import reading_ranker
from recsys.rank.ranker import Ranker
from recsys.rank.saved_ranker import load_ranker
from recsys.rank.score import Candidates, penalise, score_parts
from recsys.retrieve.ease import Ease
from recsys.retrieve.retriever import Users
from recsys.train.loop import predict
from recsys.train.saved_model import SavedModel, load_model


@dataclass(frozen=True)
class Explanation:
    """The explanation of one movie for one user. Frames are in display order."""

    run_id: str  # of the published list
    user_id: int
    movie: pl.DataFrame  # one row: movie_id, title, year, genres
    rating: float | None  # the user's own rating in stars of the movie, or else of another entry of its film, if any
    rank: int | None  # rank in the published list, if listed
    score: float
    rating_hat: float  # expected stars
    parts: pl.DataFrame  # (part, value, weight, adds); the sum of `adds` is the score
    stars: pl.DataFrame  # (stars, probability)
    affinity: float | None  # from EASE, if used; its logarithm is the EASE part, except for new movies
    because: pl.DataFrame  # (movie_id, title, year, rating, share); the sum of all shares is the affinity

    def as_json(self) -> dict[str, Any]:
        frames = {"parts": self.parts, "stars": self.stars, "because": self.because}
        plain = {"run_id", "user_id", "rating", "rank", "score", "rating_hat", "affinity"}
        return {
            "movie": self.movie.select("movie_id", "title", "year", "genres").row(0, named=True),
            **{name: value for name, value in vars(self).items() if name in plain},
            **{name: frame.to_dicts() for name, frame in frames.items()},
        }


def explain(home: Home, user_id: int, asked: str) -> Explanation:
    """Explains the score that the published run gives to the movie with this title or id for this user.

    Raises: NotPublished if there are no lists, or if the folder of their run is missing or damaged; ModelError if its
    network is missing or damaged; UsageError if the user or the movie is unknown.
    """
    place = lookup.find_place(home, user_id, asked)
    vocabulary, ranker = _load(home.run(place.run_id))
    users = ranker.users(torch.from_numpy(vocabulary.encode_users([user_id])))
    item_idx = torch.from_numpy(vocabulary.encode_movies(place.movie["movie_id"].to_numpy()))
    rated = _rated(users, vocabulary, place.movies)
    parts, rating_hat = _parts(ranker, users, item_idx)
    prediction = predict(ranker.network, Pairs(users.user_idx, item_idx, torch.tensor([ranker.rated_at])))
    ease = next((one for one in ranker.retrievers.values() if isinstance(one, Ease)), None)
    shares = ease.shares(users.histories.items, item_idx)[0].double() if ease else None
    return Explanation(
        run_id=place.run_id,
        user_id=user_id,
        movie=place.movie,
        rating=own_rating(ranker, users, item_idx),
        rank=place.rank,
        score=float(parts["adds"].sum()),
        rating_hat=rating_hat,
        parts=parts,
        stars=pl.DataFrame({"stars": ranker.network.sizes.levels, "probability": prediction.p_BK[0].numpy()}),
        affinity=None if shares is None else shares.sum().item(),
        because=_by_share(rated, shares),
    )


def _load(run: Run) -> tuple[Vocabulary, Ranker]:
    with reading_ranker(run, "nothing can be explained"):
        vocabulary = Vocabulary.load(run.vocabulary)
        return vocabulary, load_ranker(run.ranker, load_model(SavedModel(run.tonight_model), vocabulary))


def _parts(ranker: Ranker, users: Users, item_idx: Tensor) -> tuple[pl.DataFrame, float]:
    """Returns (part, value, weight, adds), and the expected stars."""
    by_retriever = [ranker.new_movies.place(one.log_affinity(users)) for one in ranker.retrievers.values()]
    found = Candidates(item_idx[None], torch.stack(by_retriever, dim=2)[:, item_idx])
    parts_BCP, rating_hat_BC = score_parts(ranker, users, found)
    weight_P = ranker.weights.of(users.histories.sizes(), ranker.parts)[0]
    rows = list(zip(ranker.parts, parts_BCP[0, 0].tolist(), weight_P.tolist(), strict=True))
    if ranker.config.popularity_penalty:
        rows.append(("popularity_penalty", penalise(ranker, item_idx).item(), -1.0))
    parts = pl.DataFrame(rows, schema=["part", "value", "weight"], orient="row")
    return parts.with_columns(adds=pl.col("value") * pl.col("weight")), rating_hat_BC.item()


def _rated(users: Users, vocabulary: Vocabulary, movies: pl.DataFrame) -> pl.DataFrame:
    """Returns (movie_id, title, year, rating) of the movies that the user has rated, in order of index."""
    own = users.histories
    rated = pl.DataFrame({"movie_id": vocabulary.movie_ids[own.items.numpy() - 1], "rating": own.stars.numpy()})
    named = rated.join(movies, on="movie_id", how="left", maintain_order="left")
    return named.select("movie_id", "title", "year", "rating")


def own_rating(ranker: Ranker, users: Users, item_idx: Tensor) -> float | None:
    """Returns the user's rating of the movie, or else of the lowest entry of its film that they have rated."""
    own, film_I = users.histories, ranker.films.film_I
    for is_rated in (own.items == item_idx, film_I[own.items] == film_I[item_idx]):
        if is_rated.any():
            return own.stars[is_rated][0].item()
    return None


def _by_share(rated: pl.DataFrame, shares: Tensor | None) -> pl.DataFrame:
    """Returns the rated movies by descending share. Empty without EASE."""
    if shares is None:
        return rated.head(0).with_columns(share=pl.lit(0.0))
    return rated.with_columns(share=pl.Series(shares.numpy())).sort("share", "movie_id", descending=[True, False])
