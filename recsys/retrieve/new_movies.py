"""Scores for movies without ratings: the weighted mean of the scores of similar movies by genre, year and title.

Shapes: I items, M movies without a rating, K neighbours of each, B users of one block, V values of features.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recsys.encode.features import Feature, Features, MovieFeature
from recsys.models.sparse import from_offsets
from recsys.retrieve.top_n import top_columns

NEIGHBOURS = 50
FIRST_MOMENT = 788_918_400  # 1995-01-01; earlier moments are not those of real ratings, so no movie counts as later
NEW_AT_ONCE = 512
CONTENT: tuple[MovieFeature, ...] = ("genres", "decade", "words")  # equally weighted


@dataclass(frozen=True)
class NewMovies:
    """Movies without ratings (item_M, ascending item_idx) and their most similar rated movies.

    like_MK: item_idx, ascending within a row. share_MK: weights of these movies, summing to one within a row.
    """

    item_M: Tensor
    like_MK: Tensor
    share_MK: Tensor

    def place(self, score_BI: Tensor) -> Tensor:
        """Returns the scores, (B, I), with the weighted mean of its neighbours for each new movie. May be a copy."""
        if not len(self.item_M):
            return score_BI
        offsets = torch.arange(len(self.item_M) + 1) * self.like_MK.shape[1]
        shape = (len(self.item_M), score_BI.shape[1])
        share_MI = from_offsets(offsets, self.like_MK.flatten(), self.share_MK.flatten(), shape).to(score_BI.device)
        placed_MB = share_MI @ score_BI.T.contiguous()
        return score_BI.index_copy(1, self.item_M.to(score_BI.device), placed_MB.T)


def find_new_movies(features: Features, counts_I: Tensor, moment: int = 0) -> NewMovies:
    """Finds the neighbours of movies without ratings at `moment`, in seconds since 1970; see `FIRST_MOMENT`.

    Movies that resemble no rated movie are left out, and so are those of later years: a catalogue has no dates, so a
    run as of an earlier time also reads movies that did not exist yet. A movie with ratings exists, whatever its year.

    Similarity is the mean of the cosines of genres, decade and title words. Frequent values have lower weights (IDF).
    Ties go to the lower index.
    """
    content_IV = gather_content(features, len(counts_I))
    rated = (counts_I > 0).nonzero().squeeze(1)
    new = ((counts_I == 0) & ~_unreleased(features, len(counts_I), moment)).nonzero().squeeze(1)
    n = min(NEIGHBOURS, len(rated))
    items, like, share = [new[:0]], [torch.empty(0, n, dtype=torch.int64)], [torch.empty(0, n)]
    for item_M in new.split(NEW_AT_ONCE) if n else ():
        likeness_MR = torch.from_numpy((content_IV[item_M.numpy()] @ content_IV[rated.numpy()].T).toarray()).float()
        column_MK = top_columns(likeness_MR, n)
        likeness_MK = likeness_MR.gather(1, column_MK)
        total_M = likeness_MK.sum(1)
        is_alike_M = total_M > 0  # the others have no neighbours
        items.append(item_M[is_alike_M])
        like.append(rated[column_MK[is_alike_M]])
        share.append(likeness_MK[is_alike_M] / total_M[is_alike_M, None])
    return NewMovies(torch.cat(items), torch.cat(like), torch.cat(share))


def _unreleased(features: Features, n_items: int, moment: int) -> Tensor:
    """Returns (I,) bool: movies whose year of release is after that of `moment`."""
    year_I = torch.zeros(n_items, dtype=torch.int64)
    if moment < FIRST_MOMENT or "year" not in features.item:
        return year_I > 0
    feature = features.item["year"]
    year_of_value = torch.tensor([0, *map(int, feature.names)])
    year_I[feature.rows()] = year_of_value[feature.values]
    return year_I > datetime.fromtimestamp(moment, UTC).year


def gather_content(features: Features, n_items: int) -> sparse.csr_array:
    """Returns (I, V) float32 rows whose dot products are the similarities of movies. The row of index 0 is empty."""
    known = [features.item[name] for name in CONTENT if name in features.item]
    if not known:
        return sparse.csr_array((n_items, 1), dtype=np.float32)
    return sparse.csr_array(sparse.hstack([_unit_rows(feature, n_items) for feature in known])) / len(known) ** 0.5


def _unit_rows(feature: Feature, n_items: int) -> sparse.csr_array:
    """Returns (I, V) rows of length one. Rows of movies without known values are empty."""
    is_known = (feature.values > 0).numpy()  # value 0 is "not known" and matches nothing
    rows, values = feature.rows().numpy()[is_known], feature.values.numpy()[is_known]
    rarity_V = np.log(n_items / np.bincount(values, minlength=feature.n_values).clip(min=1))
    squares_I = np.bincount(rows, weights=rarity_V[values] ** 2, minlength=n_items)
    weights = (rarity_V[values] / np.sqrt(squares_I[rows]).clip(min=1e-9)).astype(np.float32)
    return sparse.csr_array((weights, (rows, values)), shape=(n_items, feature.n_values))
