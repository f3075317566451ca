from typing import Any

import optuna
import pytest
from pydantic import Field as ConfigField

from recsys.compare.search_space import Field, search_space, with_values
from recsys.models import MODELS, NetworkConfig
from recsys.models.softmax import softmax
from tests.support.planted import LEVELS

DEFAULT = softmax(1000, len(LEVELS))


def draw(field: Field, n: int = 200) -> list[Any]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [field.suggest(study.ask()) for _ in range(n)]


def test_fields_with_a_range_are_searched() -> None:
    fields = {field.path: field for field in search_space(DEFAULT)}
    assert fields.keys() == {"training.learning_rate", "embedding_dim", "hidden_dim", "dropout"}
    assert fields["training.learning_rate"] == Field("training.learning_rate", 0.01, [1e-4, 0.1, "log"])


@pytest.mark.parametrize("name", MODELS)
def test_every_network_can_be_searched(name: str) -> None:
    """The range of each field gives valid configs."""
    config = MODELS[name].configure(1000, len(LEVELS))
    fields = search_space(config)
    assert fields
    values = [draw(field, 20) for field in fields]
    for drawn in zip(*values, strict=True):
        with_values(config, dict(zip((field.path for field in fields), drawn, strict=True)))


@pytest.mark.parametrize(
    ("search", "kind"), [([8, 128, "int"], int), ([8, 128, "int_log"], int), ([1.0, 99.0, "linear"], float)]
)
def test_values_are_in_the_range(search: list[Any], kind: type) -> None:
    drawn = draw(Field("size", search[0], search))
    assert {type(value) for value in drawn} == {kind}
    assert search[0] <= min(drawn) < max(drawn) <= search[1]


def test_a_logarithmic_range_is_searched_evenly_in_its_logarithm() -> None:
    drawn = draw(Field("rate", 0.01, [1e-4, 1.0, "log"]), 1000)
    assert 0.4 < sum(value < 0.01 for value in drawn) / len(drawn) < 0.6


def test_a_list_of_choices_is_searched() -> None:
    assert set(draw(Field("kind", "b", ["a", "b", "c"]))) == {"a", "b", "c"}


def test_a_default_outside_the_range_is_in_the_space() -> None:
    assert max(draw(Field("size", 1000, [1, 10, "int"]))) > 10
    assert "z" in draw(Field("kind", "z", ["a", "b"]))


def test_values_are_set_by_path_and_validated() -> None:
    changed = with_values(DEFAULT, {"training.learning_rate": 0.5, "dropout": 0.25})
    assert changed.training.learning_rate == 0.5
    assert changed.model_dump() == {
        **DEFAULT.model_dump(),
        "dropout": 0.25,
        "training": {**DEFAULT.training.model_dump(), "learning_rate": 0.5},
    }
    with pytest.raises(ValueError, match="dropout"):
        with_values(DEFAULT, {"dropout": 2.0})


def test_disabled_parts_are_not_searched() -> None:
    class Optional(NetworkConfig):
        none: float | None = ConfigField(None, json_schema_extra={"search": [0.1, 1.0, "linear"]})
        nothing: float = ConfigField(0.0, json_schema_extra={"search": [0.1, 1.0, "log"]})
        zero: float = ConfigField(0.0, json_schema_extra={"search": [0.1, 1.0, "linear"]})
        kind: str | None = ConfigField(None, json_schema_extra={"search": ["a", "b"]})

    fields = search_space(Optional(training=DEFAULT.training))
    assert [field.path for field in fields] == ["training.learning_rate", "zero", "kind"]


def test_fields_without_a_range_are_not_searched() -> None:
    class Silent(NetworkConfig):
        size: int = ConfigField(3, json_schema_extra={"unit": "none"})

    assert [field.path for field in search_space(Silent(training=DEFAULT.training))] == ["training.learning_rate"]
