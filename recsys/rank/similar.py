"""Movies like a movie: watched by the same people, rated alike by them, of the same kind.

Shapes: I items, B items of one block, N places, D width of a profile, U users asked.
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

USERS_ASKED = 256  # whose expected stars are a movie's profile: enough to tell tastes apart
DOUBT = 20  # ratings' worth: what few have rated is like everything by chance
SCORES_PER_BLOCK = 2**23


@dataclass(frozen=True)
class Similar:
    """Consecutive movies with the most similar ones, one row per place, by movie and rank."""

    item_idx: Tensor  # int64
    rank: Tensor  # int64, from 1
    similar_idx: Tensor  # int64
    similarity: Tensor  # float32, at most 1


def find_similar(ranker: Ranker, features: Features, n: int) -> Iterator[Similar]:
    """The `n` movies most similar to each rated one, block by block, among those that somebody rated and that the
    ranker's rules keep from nobody; fewer where there are fewer.

    Similarity is the mean of three cosines: of the vectors by which retrieval knows who watches a movie, of the stars
    that the network expects it to get from a sample of users, and of what the movie is (genres, decade, words of the
    title). From both of the first, what all movies have in common is taken off, and they count the less, the fewer have
    rated the other movie: else the most popular would be like everything. Equally similar: the lower index first.
    """
    counts = ranker.counts
    item_I = (counts > 0).nonzero().squeeze(1)
    closed_I = ranker.eligibility.closed_I[item_I]
    support_I = counts[item_I] / (counts[item_I] + DOUBT)
    profiles = [_centred(part[item_I]) for part in _profiles(ranker)]
    content = gather_content(features, len(counts))[item_I.numpy()]
    for rows in torch.arange(len(item_I)).split(max(1, SCORES_PER_BLOCK // len(item_I))):
        similarity_BI = _content_cosines(content, rows)
        for profile_ID in profiles:
            similarity_BI += profile_ID[rows] @ profile_ID.T * support_I
        similarity_BI /= 1 + len(profiles)
        similarity_BI[torch.arange(len(rows)), rows] = -torch.inf  # itself
        similarity_BI[:, closed_I] = -torch.inf
        column_BN = top_columns(similarity_BI, min(n, len(item_I) - 1))
        found_BN = similarity_BI.gather(1, column_BN)
        order_BN = found_BN.argsort(dim=1, descending=True, stable=True)
        row, place = (found_BN.gather(1, order_BN) > -torch.inf).nonzero(as_tuple=True)
        column = column_BN.gather(1, order_BN)[row, place]
        yield Similar(item_I[rows[row]], place + 1, item_I[column], similarity_BI[row, column])


def _profiles(ranker: Ranker) -> Iterator[Tensor]:
    """(I, D) each: who watches a movie, and who likes it."""
    for retriever in ranker.retrievers.values():
        if isinstance(retriever, Als | Towers):
            yield (retriever.item_ID if isinstance(retriever, Als) else retriever.item_IW).cpu()
            break
    yield _expected_stars(ranker)


def _expected_stars(ranker: Ranker) -> Tensor:
    """(I, U) of the users with the most ratings, whom the network knows best."""
    user_U = ranker.histories.sizes().argsort(descending=True, stable=True)[:USERS_ASKED]
    item_I = torch.arange(ranker.histories.n_items)
    user_idx, item_idx = user_U.repeat(len(item_I)), item_I.repeat_interleave(len(user_U))
    pairs = Pairs(user_idx, item_idx, torch.full_like(user_idx, ranker.rated_at))
    stars_IU = predict(ranker.network, pairs.to(ranker.network.levels().device)).mean_B.cpu().view(-1, len(user_U))
    return stars_IU - stars_IU.mean(1, keepdim=True)  # how good it is says nothing of what it is like


def _centred(rows_ID: Tensor) -> Tensor:
    """Rows of length one, of what is left of each when the mean row is taken off."""
    unit_ID = normalize(rows_ID, dim=1)
    return normalize(unit_ID - unit_ID.mean(0), dim=1)


def _content_cosines(content: sparse.csr_array, rows: Tensor) -> Tensor:
    """(B, I) float32."""
    return torch.from_numpy((content[rows.numpy()] @ content.T).toarray()).float()
