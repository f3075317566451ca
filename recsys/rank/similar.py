"""Similar movies: movies with the same users, similar ratings and similar content.

Shapes: I items, B items of one block, T items of films with several entries, N places, D width of a profile, U most
active users.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from scipy import sparse
from torch import Tensor
from torch.nn.functional import normalize

from recsys.encode.features import Features
from recsys.models import Pairs
from recsys.rank.ranker import Ranker
from recsys.retrieve.als import Als
from recsys.retrieve.new_movies import gather_content
from recsys.retrieve.top_n import top_columns
from recsys.retrieve.towers import Towers
from recsys.train.loop import predict

USERS_ASKED = 256  # number of users in the profile of expected stars; large enough to separate tastes
DOUBT = 20  # ratings; shrinks similarities to rarely rated movies, which can be high by chance
SCORES_PER_BLOCK = 2**23


@dataclass(frozen=True)
class Similar:
    """The most similar movies of consecutive movies, one row per place, by movie and rank."""

    item_idx: Tensor  # int64
    rank: Tensor  # int64, from 1
    similar_idx: Tensor  # int64
    similarity: Tensor  # float32, at most 1


def find_similar(ranker: Ranker, features: Features, n: int) -> Iterator[Similar]:
    """Yields up to `n` similar movies for each rated movie, among rated movies that are not forbidden for all users.

    They are films other than the movie itself, each once: the entry with the highest similarity stands for its film.

    Similarity is the mean of three cosines: of the item vectors of retrieval (who watches it), of the expected stars of
    the most active users (who likes it), and of the content (genres, decade, title words). The first two are centred on
    the mean of all movies, because otherwise the most popular movies would be similar to everything. They are shrunk if
    the other movie has few ratings. Ties go to the lower index.
    """
    counts = ranker.counts
    item_I = (counts > 0).nonzero().squeeze(1)
    closed_I = ranker.eligibility.closed_I[item_I]
    support_I = counts[item_I] / (counts[item_I] + DOUBT)
    profiles = [_centred(part[item_I]) for part in _profiles(ranker)]
    film_I = ranker.films.film_I[item_I]
    twin_T = ranker.films.has_twin[item_I].nonzero().squeeze(1)
    content = gather_content(features, len(counts))[item_I.numpy()]
    for rows in torch.arange(len(item_I)).split(max(1, SCORES_PER_BLOCK // len(item_I))):
        similarity_BI = _content_cosines(content, rows)
        for profile_ID in profiles:
            similarity_BI += profile_ID[rows] @ profile_ID.T * support_I
        similarity_BI /= 1 + len(profiles)
        similarity_BI[film_I[rows][:, None] == film_I] = -torch.inf  # itself
        similarity_BI[:, closed_I] = -torch.inf
        similarity_BT = similarity_BI[:, twin_T]
        ranker.films.keep_best_(similarity_BT, item_I[twin_T].expand_as(similarity_BT))
        similarity_BI[:, twin_T] = similarity_BT
        column_BN = top_columns(similarity_BI, min(n, len(item_I) - 1))
        found_BN = similarity_BI.gather(1, column_BN)
        order_BN = found_BN.argsort(dim=1, descending=True, stable=True)
        row, place = (found_BN.gather(1, order_BN) > -torch.inf).nonzero(as_tuple=True)
        column = column_BN.gather(1, order_BN)[row, place]
        yield Similar(item_I[rows[row]], place + 1, item_I[column], similarity_BI[row, column])


def _profiles(ranker: Ranker) -> Iterator[Tensor]:
    """Yields two (I, D) profiles: who watches a movie, and who likes it."""
    for retriever in ranker.retrievers.values():
        if isinstance(retriever, Als | Towers):
            yield (retriever.item_ID if isinstance(retriever, Als) else retriever.item_IW).cpu()
            break
    yield _expected_stars(ranker)


def _expected_stars(ranker: Ranker) -> Tensor:
    """Returns (I, U) for the users with the most ratings, for whom the network has the most data."""
    user_U = ranker.histories.sizes().argsort(descending=True, stable=True)[:USERS_ASKED]
    item_I = torch.arange(ranker.histories.n_items)
    user_idx, item_idx = user_U.repeat(len(item_I)), item_I.repeat_interleave(len(user_U))
    pairs = Pairs(user_idx, item_idx, torch.full_like(user_idx, ranker.rated_at))
    stars_IU = predict(ranker.network, pairs.to(ranker.network.levels().device)).mean_B.cpu().view(-1, len(user_U))
    return stars_IU - stars_IU.mean(1, keepdim=True)  # the quality of a movie is not part of its profile


def _centred(rows_ID: Tensor) -> Tensor:
    """Subtracts the mean row and scales rows to length one."""
    unit_ID = normalize(rows_ID, dim=1)
    return normalize(unit_ID - unit_ID.mean(0), dim=1)


def _content_cosines(content: sparse.csr_array, rows: Tensor) -> Tensor:
    """Returns (B, I) float32."""
    return torch.from_numpy((content[rows.numpy()] @ content.T).toarray()).float()
