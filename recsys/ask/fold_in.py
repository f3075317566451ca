"""Folds in a new user: computes the list that a saved ranker gives to a user with a few ratings.

The arithmetic of `rank.score` is repeated for one user in numpy, because importing numpy takes a tenth of the time of
importing torch. `recsys recommend --ratings` then answers at once. A test checks that both give equal results.

Shapes: I items (index 0 is "unknown"), R rated movies, C candidates, D embedding_dim.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

from recsys.rank.common import MIN_CHANCE, MIN_STARS, REASONS, liked_from, middle_of, read_description
from recsys.retrieve.scales import LEAST_CONFIDENCE, MIN_AFFINITY, MOST_CONFIDENCE

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Folded:
    """A list, best first."""

    item_idx: Indices  # (N,)
    score: Floats
    rating_hat: Floats  # expected stars
    because: list[list[int]]  # item_idx of rated movies, largest share first


@dataclass(frozen=True)
class Asker:
    """The new user."""

    rated_R: Indices  # item_idx, ascending
    stars_R: Floats
    stated: Sequence[str]  # e.g. gender=F

    def keep(self, is_kept_R: npt.NDArray[np.bool_]) -> "Asker":
        """Drops the other ratings."""
        return Asker(self.rated_R[is_kept_R], self.stars_R[is_kept_R], self.stated)


class SavedRanker:
    """The files of `rank.saved_ranker`. Only the arrays needed for one user are read.

    What earlier versions of the program did not save is read first, so that it is missed before a list is made.
    """

    def __init__(self, folder: Path) -> None:
        """Raises: NotPublished if the files have another format version."""
        self.described: dict[str, Any] = read_description(folder)
        self.config = self.described["config"]
        self.retrievers: dict[str, str] = dict(self.described["retrievers"])  # name: kind
        self.middle, self.rating_mean = middle_of(self.described["levels"]), float(self.described["rating_mean"])
        self._arrays = safe_open(folder / "ranker.safetensors", framework="numpy")
        self.noise = float(self.array("strangers.noise"))

    def array(self, name: str) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = self._arrays.get_tensor(name)  # type: ignore[no-untyped-call]
        return array

    def rows(self, name: str, rows: Sequence[int]) -> npt.NDArray[Any]:
        """Reads some rows of a matrix that can be gigabytes large."""
        matrix = self._arrays.get_slice(name)  # type: ignore[no-untyped-call]
        return np.stack([matrix[row : row + 1][0] for row in rows])

    def weights(self, n_ratings: int) -> dict[str, float]:
        """Returns the weight of each part of a score for a user with this many ratings."""
        by_size: dict[str, dict[str, float]] = self.described["weights"]
        return by_size[str(max(int(size) for size in by_size if int(size) <= n_ratings))]


def fold_in(ranker: SavedRanker, ratings: Mapping[int, float], stated: Sequence[str], n: int) -> Folded:
    """Returns the `n` best movies for a user with these ratings (item_idx: stars) and properties, e.g. gender=F.

    The retrievers do not see movies rated below the middle of the scale. The expected stars depend on all ratings.
    Rated films and movies that rules exclude for all users are left out. Of several entries of a film, the one with the
    highest score is listed. Caps and diversity are not applied. Ties go to the lower index.
    """
    rated_R = np.array(sorted(ratings), dtype=np.int64)
    asker = Asker(rated_R, np.array([ratings[item] for item in sorted(ratings)], dtype=np.float64), stated)
    retrieving = asker.keep(asker.stars_R >= ranker.middle)
    affinity = {name: _log_affinity(ranker, name, retrieving) for name in ranker.retrievers}
    stars_I, likes_I = _expect(ranker, asker)
    parts = affinity | {
        "stars": np.log(np.maximum(stars_I, MIN_STARS)),
        "likes": np.log(np.maximum(likes_I, MIN_CHANCE)),
    }
    weights = ranker.weights(len(retrieving.rated_R))
    score_I = np.sum([weights[name] * value_I.astype(np.float64) for name, value_I in parts.items()], axis=0)
    score_I -= ranker.config["popularity_penalty"] * np.log(np.maximum(ranker.array("counts"), 1))
    may_be_shown_I = ranker.array("listable").copy()
    film_I = ranker.array("film_I")
    may_be_shown_I[np.isin(film_I, film_I[rated_R])] = False
    mean_I = np.where(may_be_shown_I, np.mean(list(affinity.values()), axis=0), -np.inf)
    best_N = _best(score_I, mean_I, film_I, n, max(n, ranker.config["candidates"]))
    return Folded(
        item_idx=best_N,
        score=score_I[best_N],
        rating_hat=stars_I[best_N],
        because=_because(ranker, asker, best_N),
    )


def _expect(ranker: SavedRanker, asker: Asker) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Returns (I,) the expected stars and (I,) the probability of relevant stars, as `rank.strangers` does."""
    stars_I, likes_I = ranker.array("strangers.stars_I"), ranker.array("strangers.likes_I")
    if not len(asker.rated_R):
        return stars_I, likes_I
    stars_ID, likes_ID = (ranker.array(f"strangers.{name}").astype(np.float64) for name in ("stars_ID", "likes_ID"))
    own_RD = stars_ID[asker.rated_R]
    left_DD = own_RD.T @ own_RD + ranker.noise * np.eye(own_RD.shape[1])
    factor_D = np.linalg.solve(left_DD, own_RD.T @ (asker.stars_R - stars_I[asker.rated_R]))
    lowest, highest = ranker.described["levels"][0], ranker.described["levels"][-1]
    chance_I = np.clip(likes_I.astype(np.float64), MIN_CHANCE, 1 - MIN_CHANCE)
    odds_I = np.log(chance_I / (1 - chance_I)) + likes_ID @ factor_D
    changed_I = np.clip(stars_I + stars_ID @ factor_D, np.minimum(lowest, stars_I), np.maximum(highest, stars_I))
    return changed_I.astype(np.float32), (1 / (1 + np.exp(-odds_I))).astype(np.float32)


def _best(score_I: Floats, mean_I: Floats, film_I: Indices, n: int, n_candidates: int) -> Indices:
    """Returns the `n` best films among the best candidates, by score. Ties go to the lower index.

    mean_I: -inf for movies that may not be shown. More candidates are tried if several are the same film.
    """
    n_shown = int((mean_I > -np.inf).sum())
    candidate_C = np.sort(np.argsort(-mean_I, kind="stable")[: min(n_candidates, n_shown)])
    ordered_C = candidate_C[np.argsort(-score_I[candidate_C], kind="stable")]
    _, first_of_film = np.unique(film_I[ordered_C], return_index=True)
    best_N = ordered_C[np.sort(first_of_film)][:n]
    if len(best_N) < n and n_candidates < n_shown:
        return _best(score_I, mean_I, film_I, n, 4 * n_candidates)
    return best_N


def _log_affinity(ranker: SavedRanker, name: str, asker: Asker) -> npt.NDArray[Any]:
    """Returns (I,) the scores of one retriever. A new movie has the weighted mean of its neighbours' scores."""
    kind = ranker.retrievers[name]
    if kind == "towers":
        score_I = ranker.array(f"{name}.item_IW") @ ranker.rows(f"{name}.user_UW", [0])[0]
    else:
        affinity_I = {"ease": _ease, "als": _als, "popularity": _popularity}[kind](ranker, name, asker)
        score_I = np.log(np.maximum(affinity_I, MIN_AFFINITY))
    score_I[ranker.array("new_movies.item_M")] = (
        score_I[ranker.array("new_movies.like_MK")] * ranker.array("new_movies.share_MK")
    ).sum(1)
    placed: npt.NDArray[Any] = score_I
    return placed


def _ease(ranker: SavedRanker, name: str, asker: Asker) -> npt.NDArray[Any]:
    affinity_I: npt.NDArray[Any] = _shares(ranker, name, asker.rated_R).sum(0)
    return affinity_I


def _shares(ranker: SavedRanker, name: str, rated_R: Indices) -> npt.NDArray[Any]:
    """Returns (R, I) the share of each rated movie in the affinity of every movie."""
    head_H, tail_T = ranker.array(f"{name}.head_H"), ranker.array(f"{name}.tail_T")
    shares_RI = np.zeros((len(rated_R), len(ranker.array("listable"))), dtype=np.float32)
    from_TW, weights_TW = ranker.array(f"{name}.from_TW"), ranker.array(f"{name}.weights_TW")
    for row, item in enumerate(rated_R):
        place = int(np.searchsorted(head_H, item))
        if place < len(head_H) and head_H[place] == item:
            shares_RI[row, head_H] = ranker.rows(f"{name}.weights_HH", [place])[0]
            if len(tail_T):
                shares_RI[row, tail_T] = np.where(from_TW == place, weights_TW, 0.0).sum(1)
    return shares_RI


def _als(ranker: SavedRanker, name: str, asker: Asker) -> npt.NDArray[Any]:
    item_ID, unobserved = ranker.array(f"{name}.item_ID"), float(ranker.array(f"{name}.unobserved"))
    config = ranker.config["als"]
    if not len(asker.rated_R):
        return np.zeros(len(item_ID), dtype=np.float32)
    own_RD = item_ID[asker.rated_R]
    confidence_R = 1 + config["opinion"] * (asker.stars_R - asker.stars_R.mean())
    confidence_R1 = np.clip(confidence_R, LEAST_CONFIDENCE, MOST_CONFIDENCE)[:, None]
    left_DD = (confidence_R1 * own_RD).T @ own_RD + unobserved * item_ID.T @ item_ID
    left_DD[np.diag_indices_from(left_DD)] += config["l2"] * (confidence_R1.sum() + unobserved * len(item_ID))
    affinity_I: npt.NDArray[Any] = item_ID @ np.linalg.solve(left_DD, (confidence_R1 * own_RD).sum(0))
    return affinity_I


def _popularity(ranker: SavedRanker, name: str, asker: Asker) -> npt.NDArray[Any]:
    shares_FI, names = ranker.array(f"{name}.shares_FI"), ranker.described["properties"]
    stated_rows = [1 + row for row, known in enumerate(names) if known in asker.stated]
    share_I: npt.NDArray[Any] = shares_FI[[0, *stated_rows]].sum(0)
    return share_I


def _because(ranker: SavedRanker, asker: Asker, item_N: Indices) -> list[list[int]]:
    """Returns the liked movies with the largest positive shares in each EASE affinity, like `rank.reasons`."""
    ease = next((name for name, kind in ranker.retrievers.items() if kind == "ease"), None)
    if ease is None:
        return [[] for _ in item_N]
    least = liked_from(asker.stars_R.sum(), len(asker.stars_R), ranker.middle, ranker.rating_mean)
    liked_R = asker.rated_R[asker.stars_R >= least]
    film_R, shares_NR = ranker.array("film_I")[liked_R], _shares(ranker, ease, liked_R)[:, item_N].T
    because = []
    for order, shares in zip(np.argsort(-shares_NR, axis=1, kind="stable"), shares_NR, strict=True):
        _, first_of_film = np.unique(film_R[order], return_index=True)
        strongest = order[np.sort(first_of_film)][:REASONS]
        because.append([int(liked_R[place]) for place in strongest if shares[place] > 0])
    return because
