"""Settings as a form shows them: what Prefect's UI makes fields of, and its server checks, is their JSON schema."""

from typing import Annotated

from pydantic import WithJsonSchema
from pydantic.json_schema import JsonSchemaValue

from recsys.datasets import DATASETS

Source = Annotated[
    str,
    WithJsonSchema(
        {
            "anyOf": [
                {"title": "dataset", "type": "string", "enum": list(DATASETS)},
                {"title": "path or synthetic", "type": "string", "minLength": 1},
            ]
        }
    ),
]


def as_form(schema: JsonSchemaValue) -> JsonSchemaValue:
    """Of a JSON schema of settings, what a form shows: empty fields that say what they are if left so.

    A form fills in the defaults that a schema states, and what is filled in takes the place of the environment's.
    """
    for field in schema["properties"].values():
        default = field.pop("default", None)
        if default is not None and not isinstance(default, dict):
            field["description"] = f"{field.get('description', '')} Left empty: the worker's setting, else {default}."
        if field.get("type") == "boolean":  # which a form shows as a switch: it has no place for neither
            field["enum"] = [True, False]
            del field["type"]
    return schema
