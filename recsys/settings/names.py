"""Names that are valid values of settings, and the base class of all groups of settings."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from recsys.forms import as_form

NetworkName = Literal[  # networks that predict ratings; recsys compare also trains the others
    "ordinal",
    "ordinal_basic",
    "softmax",
    "dot",
    "dot_sgd",
    "dot_bias",
    "dot_bias_one_cycle",
    "mlp",
    "mlp_deep",
    "recurrent",
    "recurrent_gru",
    "wide_deep",
    "nmf",
    "hybrid",
]
ModelName = Literal["auto", NetworkName]
RetrieverName = Literal["ease", "als", "popularity", "triplet", "triplet_bpr", "sequence"]
AnyNetworkName = Literal[NetworkName, "triplet", "triplet_bpr", "sequence"]
CANDIDATES: tuple[NetworkName, ...] = ("ordinal", "softmax")
SplitKind = Literal["random", "time", "last"]
RatingScale = Literal["auto", "whole", "half"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]
Share = Annotated[float, Field(ge=0, le=1)]


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return as_form(handler.resolve_ref_schema(handler(core)))
