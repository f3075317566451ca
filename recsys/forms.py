"""The JSON schema of the settings. Prefect's UI builds a form from it, and its server validates parameters with it."""

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
    """Moves the defaults of a JSON schema into the descriptions, so that a form shows empty fields.

    Otherwise the form would submit each default as a value and override the worker's environment.
    """
    for field in schema["properties"].values():
        default = field.pop("default", None)
        if default is not None and not isinstance(default, dict):
            field["description"] = f"{field.get('description', '')} If empty: the worker's setting, else {default}."
        if field.get("type") == "boolean":  # a form shows a switch, which cannot be left empty
            field["enum"] = [True, False]
            del field["type"]
    return schema
