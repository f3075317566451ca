"""The networks, one module each, and `MODELS`, which lists them by name.

The training loop and everything that depends on it belong in `recsys.train`.

Several networks reimplement published write-ups. Docstrings refer to these by number:

first   softmax, mlp_deep, nmf
second  recurrent, recurrent_gru, wide_deep
third   dot_sgd, dot_bias_one_cycle
fourth  dot, dot_bias, mlp
"""

from collections.abc import Callable
from dataclasses import dataclass

from recsys.models.dot import DotConfig, DotNetwork, dot, dot_sgd
from recsys.models.dot_bias import DotBiasConfig, DotBiasNetwork, dot_bias, dot_bias_one_cycle
from recsys.models.hybrid import HybridConfig, HybridNetwork, hybrid
from recsys.models.mlp import DeepMlpConfig, DeepMlpNetwork, MlpConfig, MlpNetwork, mlp, mlp_deep
from recsys.models.network import (
    BatchNetwork,
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
    "BatchNetwork",
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
    """A figure from the write-up of a network."""

    figure: str  # e.g. "MSE 0.7646"
    conditions: str  # data, holdout, epochs


@dataclass(frozen=True)
class Variant:
    """A named network: a function that returns its default config, its config type, and its class."""

    configure: Callable[[int, int], NetworkConfig]  # (n_ratings, n_levels)
    config_type: type[NetworkConfig]
    build: Callable[..., Network]  # (config, sizes, features): the network's class
    what: str  # description in one line
    reported: Reported | None = None

    @property
    def rates(self) -> bool:
        """Whether the network predicts ratings, as a night requires."""
        return isinstance(self.build, type) and issubclass(self.build, RatingNetwork)


# the edition of ml-latest-small used by the write-ups: 671 users, 9,066 movies, 100,004 ratings
OLD_SMALL = "older ml-latest-small (671 users)"

MODELS: dict[str, Variant] = {
    "ordinal": Variant(
        ordinal,
        OrdinalConfig,
        OrdinalNetwork,
        "default: ordered thresholds on a bilinear score, with history, opinions, features and rating times",
    ),
    "ordinal_basic": Variant(
        ordinal_basic,
        OrdinalConfig,
        OrdinalNetwork,
        "like ordinal, with history only: half the training time, slightly less accurate",
    ),
    "softmax": Variant(
        softmax,
        SoftmaxConfig,
        SoftmaxNetwork,
        "two vectors, three dense layers, one class per star level",
        Reported("MAE 0.669", "ML-1M, 25% random holdout, 10 epochs"),
    ),
    "dot": Variant(
        dot,
        DotConfig,
        DotNetwork,
        "dot product of two vectors, without biases",
        Reported("MSE 1.2209", f"{OLD_SMALL}, 10% random holdout, 5 epochs"),
    ),
    "dot_sgd": Variant(dot_sgd, DotConfig, DotNetwork, "like dot, trained by plain gradient descent from small values"),
    "dot_bias": Variant(
        dot_bias,
        DotBiasConfig,
        DotBiasNetwork,
        "dot product with biases, scaled to the range of stars by a sigmoid",
        Reported("MSE 0.7646", f"{OLD_SMALL}, 10% random holdout, best of 5 epochs"),
    ),
    "dot_bias_one_cycle": Variant(
        dot_bias_one_cycle,
        DotBiasConfig,
        DotBiasNetwork,
        "like dot_bias, with a one-cycle schedule and a wider range",
        Reported("MSE 0.784", f"{OLD_SMALL}, random validation part"),
    ),
    "mlp": Variant(
        mlp,
        MlpConfig,
        MlpNetwork,
        "two vectors, one dense layer, scaled to the range of stars by a sigmoid",
        Reported("MSE 0.7820", f"{OLD_SMALL}, 10% random holdout, best of 5 epochs"),
    ),
    "mlp_deep": Variant(mlp_deep, DeepMlpConfig, DeepMlpNetwork, "two vectors, three dense layers, one number"),
    "recurrent": Variant(
        recurrent,
        RecurrentConfig,
        RecurrentNetwork,
        "an LSTM that reads the user vector, then the movie vector",
        Reported("MSE 0.7699", f"{OLD_SMALL}, random validation part"),
    ),
    "recurrent_gru": Variant(recurrent_gru, RecurrentConfig, RecurrentNetwork, "like recurrent, with a GRU"),
    "wide_deep": Variant(
        wide_deep,
        WideDeepConfig,
        WideDeepNetwork,
        "crossed features in parallel with dense layers",
        Reported("MSE 0.7890", f"{OLD_SMALL}, random validation part"),
    ),
    "nmf": Variant(nmf, NmfConfig, NmfNetwork, "non-negative matrix factorisation"),
    "hybrid": Variant(
        hybrid, HybridConfig, HybridNetwork, "ids, features and dates in dense layers, plus a product of user and movie"
    ),
    "triplet": Variant(
        triplet, TripletConfig, TripletNetwork, "ranking only: watched movies above unwatched ones by a margin"
    ),
    "triplet_bpr": Variant(triplet_bpr, TripletConfig, TripletNetwork, "like triplet, with a logistic loss"),
    "sequence": Variant(
        sequence,
        SequenceConfig,
        SequenceNetwork,
        "ranking only: reads the history in order of time and predicts the next movie",
    ),
}
