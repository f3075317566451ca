"""Measures a network and the baselines on the holdout: errors in stars, and quality of lists."""

import logging

import polars as pl
import torch
from torch import Tensor

from recsys.encode.features import Features
from recsys.encode.vocabulary import Vocabulary
from recsys.evaluate.lists import ListQuality, judge_lists
from recsys.evaluate.slices import measure_slices
from recsys.metrics.calibration import calibration_metrics, reliability
from recsys.metrics.decode import Prediction
from recsys.metrics.errors import number_metrics, prediction_metrics
from recsys.models import Interactions, Network, RatingNetwork
from recsys.models.baselines import fit_baselines
from recsys.rank.lists import list_alone, list_blocks, list_popular
from recsys.rank.place import rank_movies
from recsys.rank.ranker import Ranker
from recsys.train.learn import Learner
from recsys.train.loop import ROWS_PER_PREDICTION, predict

logger = logging.getLogger(__name__)

BASELINE = "popularity"  # the most rated movies, unlike the retriever of the same name, which is personalised
LIST_LENGTH = 50  # recall_at_50 needs 50 places, whatever n is published


def measure_errors(network: RatingNetwork, train: Interactions, holdout: Interactions) -> dict[str, dict[str, float]]:
    """Returns metrics by model name: `network`, then every baseline fitted to the same `train`."""
    levels_K = network.levels().cpu()
    errors = {"network": judge(predict(network, holdout).cpu(), holdout, levels_K)}
    for name, baseline in fit_baselines(train, network.sizes).items():
        stars_hat = baseline(holdout.user_idx, holdout.item_idx)
        errors[name] = number_metrics(stars_hat, levels_K[holdout.level_idx], levels_K)
    return errors


@torch.no_grad()
def mean_error(network: Network, rows: Interactions) -> float:
    """Returns the mean of the network's own `errors`, for networks that predict no ratings."""
    network.eval()
    firsts = range(0, len(rows), ROWS_PER_PREDICTION)
    parts = [network.errors(rows.take(slice(first, first + ROWS_PER_PREDICTION))) for first in firsts]
    return torch.cat(parts).double().mean().item()


def judge(prediction: Prediction, holdout: Interactions, levels_K: Tensor) -> dict[str, float]:
    """Returns the errors of every decoder, and the calibration metrics. Tensors must be on the CPU."""
    errors = prediction_metrics(prediction, holdout.level_idx, levels_K)
    return errors | calibration_metrics(prediction.p_BK, holdout.level_idx)


def measure_details(
    network: RatingNetwork, train: Interactions, holdout: Interactions, features: Features
) -> dict[str, dict[str, float]]:
    """Returns metrics by slice of the ratings, then the predicted and observed shares by bin of probability."""
    levels_K = network.levels().cpu()
    prediction = predict(network, holdout).cpu()
    bins = reliability(prediction.p_BK, holdout.level_idx)
    return measure_slices(prediction, train, holdout, levels_K, features) | {
        f"predicted={one.lower:g}-{one.upper:g}": {"n": one.n, "predicted": one.predicted, "observed": one.observed}
        for one in bins
    }


def measure_lists(ranker: Ranker, train: Interactions, holdout: pl.DataFrame, learner: Learner, n: int) -> ListQuality:
    """Measures the lists of the ranker, of each single retriever, and of the most rated movies.

    Lists have `n` movies and are made for users with a rating in `train`, which the ranker was fitted to. Movies rated
    in `train` are left out. A holdout movie with `config.relevant_from` stars or more is relevant. The learner's seed
    draws the bootstrap samples.
    """
    vocabulary = learner.vocabulary
    known = pl.DataFrame({"user_id": vocabulary.user_ids[ranker.histories.sizes()[1:] > 0]})
    relevant_from = ranker.config.relevant_from
    relevant = holdout.filter(pl.col("rating") >= relevant_from).select("user_id", "movie_id").unique()
    relevant = relevant.join(known, on="user_id", how="semi")
    lists = {
        "network": _list_as_served(ranker, n, vocabulary),
        **{name: list_alone(ranker, name, LIST_LENGTH, vocabulary) for name in ranker.retrievers if name != BASELINE},
        BASELINE: list_popular(ranker.histories, LIST_LENGTH, vocabulary),
    }
    lists = {name: frame.join(known, on="user_id", how="semi") for name, frame in lists.items()}
    return judge_lists(lists, relevant, train, vocabulary, learner.features, ranker.listable, learner.seed)


def _list_as_served(ranker: Ranker, n: int, vocabulary: Vocabulary) -> pl.DataFrame:
    """Returns (user_id, rank, movie_id) with at least LIST_LENGTH places, the first `n` of which are the served list.

    With diversity, the selection depends on the length of the list. A longer list is therefore appended to the served
    one.
    """

    def ranked(length: int) -> pl.DataFrame:
        blocks = list_blocks(rank_movies(ranker, length, reasons=0), vocabulary)
        return pl.concat(block.select("user_id", "rank", "movie_id") for block in blocks)

    longer = ranked(max(n, LIST_LENGTH))
    if n >= LIST_LENGTH or not ranker.config.diversity:
        return longer
    served = ranked(n)
    both = pl.concat([served, longer.join(served, on=["user_id", "movie_id"], how="anti", maintain_order="left")])
    return both.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("user_id"))
