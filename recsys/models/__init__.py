"""The networks that can be trained, by name: one module each, and one dict."""

from collections.abc import Callable
from dataclasses import dataclass

from recsys.models.dot import DotConfig, DotNetwork, dot, dot_sgd
from recsys.models.dot_bias import DotBiasConfig, DotBiasNetwork, dot_bias, dot_bias_one_cycle
from recsys.models.hybrid import HybridConfig, HybridNetwork, hybrid
from recsys.models.mlp import DeepMlpConfig, DeepMlpNetwork, MlpConfig, MlpNetwork, mlp, mlp_deep
from recsys.models.network import (
    Interactions,
    Network,
    NetworkConfig,
    Pairs,
    RatingNetwork,
    Sizes,
    TrainingConfig,
)
from recsys.models.nmf import NmfConfig, NmfNetwork, nmf
from recsys.models.ordinal import OrdinalConfig, OrdinalNetwork, ordinal, ordinal_basic
from recsys.models.recurrent import RecurrentConfig, RecurrentNetwork, recurrent, recurrent_gru
from recsys.models.sequence import SequenceConfig, SequenceNetwork, sequence
from recsys.models.softmax import SoftmaxConfig, SoftmaxNetwork, softmax
from recsys.models.triplet import TripletConfig, TripletNetwork, triplet, triplet_bpr
from recsys.models.wide_deep import WideDeepConfig, WideDeepNetwork, wide_deep

__all__ = [
    "MODELS",
    "Interactions",
    "Network",
    "NetworkConfig",
    "Pairs",
    "RatingNetwork",
    "Sizes",
    "TrainingConfig",
    "Variant",
]


@dataclass(frozen=True)
class Reported:
    """What the write-up of a network reports."""

    figure: str  # e.g. "MSE 0.7646"
    conditions: str  # data, holdout, epochs


@dataclass(frozen=True)
class Variant:
    """A named network: its config for a number of ratings and of levels, and how to build and to read back one."""

    configure: Callable[[int, int], NetworkConfig]  # (n_ratings, n_levels)
    config_type: type[NetworkConfig]
    build: Callable[..., Network]  # (config, sizes, features): the network's class
    what: str  # it is, in a line
    reported: Reported | None = None

    @property
    def rates(self) -> bool:
        """Whether it predicts ratings; a night needs one that does."""
        return isinstance(self.build, type) and issubclass(self.build, RatingNetwork)


# the snapshot of ml-latest-small that the write-ups had: 671 users, 9,066 movies, 100,004 ratings
OLD_SMALL = "older ml-latest-small (671 users)"

MODELS: dict[str, Variant] = {
    "ordinal": Variant(
        ordinal,
        OrdinalConfig,
        OrdinalNetwork,
        "ours: thresholds over a bilinear score, with histories, opinions, features and the moment",
    ),
    "ordinal_basic": Variant(
        ordinal_basic, OrdinalConfig, OrdinalNetwork, "the same with histories alone: half the time, a little worse"
    ),
    "softmax": Variant(
        softmax,
        SoftmaxConfig,
        SoftmaxNetwork,
        "two vectors, three dense layers, one class per star",
        Reported("MAE 0.669", "ML-1M, 25% random holdout, 10 epochs"),
    ),
    "dot": Variant(
        dot,
        DotConfig,
        DotNetwork,
        "dot product of two vectors, no biases",
        Reported("MSE 1.2209", f"{OLD_SMALL}, 10% random holdout, 5 epochs"),
    ),
    "dot_sgd": Variant(dot_sgd, DotConfig, DotNetwork, "the same by plain gradient descent, smaller"),
    "dot_bias": Variant(
        dot_bias,
        DotBiasConfig,
        DotBiasNetwork,
        "dot product, biases, a sigmoid over the range of stars",
        Reported("MSE 0.7646", f"{OLD_SMALL}, 10% random holdout, best of 5 epochs"),
    ),
    "dot_bias_one_cycle": Variant(
        dot_bias_one_cycle,
        DotBiasConfig,
        DotBiasNetwork,
        "the same on a one-cycle schedule, its range widened",
        Reported("MSE 0.784", f"{OLD_SMALL}, random validation part"),
    ),
    "mlp": Variant(
        mlp,
        MlpConfig,
        MlpNetwork,
        "two vectors, one dense layer, a sigmoid over the range",
        Reported("MSE 0.7820", f"{OLD_SMALL}, 10% random holdout, best of 5 epochs"),
    ),
    "mlp_deep": Variant(mlp_deep, DeepMlpConfig, DeepMlpNetwork, "two vectors, three dense layers, one number"),
    "recurrent": Variant(
        recurrent,
        RecurrentConfig,
        RecurrentNetwork,
        "an LSTM that reads the user, then the movie",
        Reported("MSE 0.7699", f"{OLD_SMALL}, random validation part"),
    ),
    "recurrent_gru": Variant(recurrent_gru, RecurrentConfig, RecurrentNetwork, "the same with a GRU"),
    "wide_deep": Variant(
        wide_deep,
        WideDeepConfig,
        WideDeepNetwork,
        "crossed features beside dense layers",
        Reported("MSE 0.7890", f"{OLD_SMALL}, random validation part"),
    ),
    "nmf": Variant(nmf, NmfConfig, NmfNetwork, "non-negative matrix factorisation, the classic"),
    "hybrid": Variant(
        hybrid, HybridConfig, HybridNetwork, "ids, features and dates side by side into dense layers, and a product"
    ),
    "triplet": Variant(
        triplet, TripletConfig, TripletNetwork, "orders only: watched above not watched, by a margin; one movie table"
    ),
    "triplet_bpr": Variant(triplet_bpr, TripletConfig, TripletNetwork, "the same with the logistic loss"),
    "sequence": Variant(
        sequence, SequenceConfig, SequenceNetwork, "orders only: reads a history in order of time, tells what is next"
    ),
}
