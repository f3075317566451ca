"""The config that replaces a network's default one, and the networks that it leaves to train."""

from collections.abc import Sequence

from pydantic import ValidationError

from recsys.errors import UsageError
from recsys.models import MODELS, NetworkConfig
from recsys.settings import TunedConfig


def check_config(tuned: TunedConfig) -> NetworkConfig:
    """Parses the config in `tuned`. Raises: UsageError if it is not a valid config of its network."""
    try:
        return MODELS[tuned.model].config_type.model_validate(tuned.config)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise UsageError(
            f"invalid config for {tuned.model}: {problems}. Next: use one written by `recsys networks {tuned.model} "
            "--json` or `recsys tune`"
        ) from None


def check_rates(tuned: TunedConfig | None) -> None:
    """Checks that the tuned network predicts stars. Raises: UsageError if it only orders movies."""
    if tuned and not MODELS[tuned.model].rates:
        raise UsageError(
            f"--config: {tuned.model} orders movies and predicts no stars, but every night publishes stars. Next: use "
            "the config of a network that predicts stars (see recsys networks), or evaluate it with recsys compare"
        )


def list_names(model: str, candidates: Sequence[str], tuned: TunedConfig | None) -> Sequence[str]:
    """Returns the networks to train. Raises: UsageError if `tuned` belongs to a network other than `model`."""
    if tuned is None:
        return candidates if model == "auto" else [model]
    if model not in ("auto", tuned.model):
        raise UsageError(f"the config is for {tuned.model}, but the model is {model}; omit one of them")
    return [tuned.model]
