"""The holdout's verdict on a network and on the baselines beside it: errors in stars, quality of lists."""

import logging

import polars as pl

from recsys.baselines import fit_baselines
from recsys.engine import predict
from recsys.lists import list_blocks, list_popular
from recsys.metrics import list_metrics, number_metrics, prediction_metrics
from recsys.models import Interactions, RatingNetwork
from recsys.rank import fit_ranker, rank_movies
from recsys.settings import RankConfig
from recsys.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

LIST_LENGTH = 50  # recall_at_50 needs so many places, whatever n is published


def measure_errors(network: RatingNetwork, train: Interactions, holdout: Interactions) -> dict[str, dict[str, float]]:
    """Metrics by model name: the network under `network`, then every baseline fitted on the same `train`."""
    levels_K = network.levels().cpu()
    errors = {"network": prediction_metrics(predict(network, holdout).cpu(), holdout.level_idx, levels_K)}
    for name, baseline in fit_baselines(train, network.sizes).items():
        stars_hat = baseline(holdout.user_idx, holdout.item_idx)
        errors[name] = number_metrics(stars_hat, levels_K[holdout.level_idx], levels_K)
    return errors


def measure_lists(
    network: RatingNetwork, train: Interactions, holdout: pl.DataFrame, vocabulary: Vocabulary, config: RankConfig
) -> dict[str, dict[str, float]]:
    """Metrics of the network's lists and of popularity's, for users known in `train`, movies seen there removed.

    A holdout movie is relevant from `config.relevant_from` stars on.
    """
    ranker = fit_ranker(network, train, config)
    known = pl.DataFrame({"user_id": vocabulary.user_ids[train.user_idx.unique().numpy() - 1]})
    relevant = holdout.filter(pl.col("rating") >= config.relevant_from).select("user_id", "movie_id").unique()
    relevant = relevant.join(known, on="user_id", how="semi")
    n_movies = int((ranker.histories.counts() > 0).sum())
    lists = {
        "network": pl.concat(list_blocks(rank_movies(ranker, LIST_LENGTH, reasons=0), vocabulary)),
        "popularity": list_popular(ranker.histories, LIST_LENGTH, vocabulary),
    }
    return {name: list_metrics(frame, relevant, n_movies) for name, frame in lists.items()}
