"""Features of users and movies, as indices into embedding tables.

Shapes: R rows (users or movies). Row 0 is the unknown id; value 0 of a feature is "not known".
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import polars as pl
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from recsys.encode.vocabulary import Ids, Vocabulary
from recsys.files import read_json, replacing, write_json
from recsys.schema import AGE_BANDS

MIN_MOVIES_PER_WORD = 5  # rarer title words add no information to the movie's id
UserFeature = Literal["gender", "age", "occupation", "region"]
MovieFeature = Literal["genres", "year", "decade", "words"]
FeatureName = UserFeature | MovieFeature
USER_FEATURES: tuple[UserFeature, ...] = get_args(UserFeature)
MOVIE_FEATURES: tuple[MovieFeature, ...] = get_args(MovieFeature)


@dataclass(frozen=True)
class Feature:
    """A feature with any number of values per row. The values of row r are values[offsets[r]:offsets[r + 1]].

    Value v >= 1 is `names[v - 1]`. offsets: (R + 1,) int64. values: int64, at least one per row, [0] if not known.
    """

    names: tuple[str, ...]
    offsets: Tensor
    values: Tensor

    @property
    def n_values(self) -> int:
        """Number of embedding rows: the named values and "not known"."""
        return len(self.names) + 1

    def rows(self) -> Tensor:
        """The row of each of `values`, int64, ascending."""
        return torch.repeat_interleave(torch.arange(len(self.offsets) - 1), self.offsets.diff())


@dataclass(frozen=True)
class Features:
    """The features of users (rows are user_idx) and of movies (rows are item_idx), by name."""

    user: dict[str, Feature]
    item: dict[str, Feature]

    def content_hash(self) -> str:
        """A hash of all values: 12 hexadecimal digits."""
        digest = hashlib.sha256()
        for key, feature in self._all():
            digest.update(f"{key} {feature.names}".encode())
            digest.update(feature.offsets.numpy().tobytes() + feature.values.numpy().tobytes())
        return digest.hexdigest()[:12]

    def save(self, folder: Path) -> None:
        """Writes features.safetensors, and features.json with the names."""
        tensors = {f"{key}.{part}": getattr(one, part) for key, one in self._all() for part in ("offsets", "values")}
        with replacing(folder / "features.safetensors") as aside:
            save_file(tensors, aside)
        write_json(folder / "features.json", {key: list(one.names) for key, one in self._all()})

    @classmethod
    def load(cls, folder: Path) -> "Features":
        """Reads the files that `save` wrote to `folder`."""
        tensors = load_file(folder / "features.safetensors")
        features = cls({}, {})
        for key, names in read_json(folder / "features.json").items():
            side, name = key.split(".")
            getattr(features, side)[name] = Feature(tuple(names), tensors[f"{key}.offsets"], tensors[f"{key}.values"])
        return features

    def _all(self) -> list[tuple[str, Feature]]:
        sides = (("user", self.user), ("item", self.item))
        return [(f"{side}.{name}", one) for side, features in sides for name, one in sorted(features.items())]


NO_FEATURES = Features({}, {})


def fit_features(vocabulary: Vocabulary, users: pl.DataFrame, movies: pl.DataFrame) -> Features:
    """Fits the features of the ids in `vocabulary` from the canonical tables. A feature without any value is omitted.

    Users: gender, age (in bands), occupation, region (first character of the zip code). Movies: genres, year, decade,
    words (title words that occur in several movies).
    """
    age = pl.col("age").map_elements(_age_band, return_dtype=pl.String)
    region = pl.col("zip_code").str.strip_chars().str.slice(0, 1)
    words = pl.col("title").map_elements(_words, return_dtype=pl.List(pl.String))
    of_users = (pl.col("gender"), age, pl.col("occupation"), region)
    of_movies = (pl.col("genres"), pl.col("year").cast(pl.String), (pl.col("year") // 10 * 10).cast(pl.String), words)
    named_users: dict[str, pl.Expr] = dict(zip(USER_FEATURES, of_users, strict=True))
    named_movies: dict[str, pl.Expr] = dict(zip(MOVIE_FEATURES, of_movies, strict=True))
    return Features(
        _fit_side(named_users, users, vocabulary.user_ids, "user_id", {}),
        _fit_side(named_movies, movies, vocabulary.movie_ids, "movie_id", {"words": MIN_MOVIES_PER_WORD}),
    )


def _fit_side(
    columns: dict[str, pl.Expr], table: pl.DataFrame, ids: Ids, key: str, at_least: dict[str, int]
) -> dict[str, Feature]:
    rows = pl.DataFrame({key: ids}).join(table, on=key, how="left", maintain_order="left")
    fitted = {name: _fit_feature(rows.select(column), at_least.get(name, 1)) for name, column in columns.items()}
    # sorted by name, as they are read from disk, because networks concatenate them in this order
    return {name: feature for name, feature in sorted(fitted.items()) if feature.names}


def _fit_feature(column: pl.DataFrame, at_least: int) -> Feature:
    """Fits the feature of rows 1, 2, ...; row 0 has no value. Values in fewer than `at_least` rows are dropped."""
    series = column.to_series()
    given = series if isinstance(series.dtype, pl.List) else series.cast(pl.String).reshape((-1, 1)).arr.to_list()
    long = pl.DataFrame({"row": np.arange(1, len(given) + 1), "value": given}).explode("value").drop_nulls().unique()
    names = long.group_by("value").len().filter(pl.col("len") >= at_least)["value"].sort().to_list()
    index = pl.DataFrame({"value": names, "index": np.arange(1, len(names) + 1)}, schema_overrides={"value": pl.String})
    known = long.join(index, on="value").select("row", "index")
    rows = pl.DataFrame({"row": np.arange(len(given) + 1)})
    filled = rows.join(known, on="row", how="left").with_columns(pl.col("index").fill_null(0)).sort("row", "index")
    counts = torch.from_numpy(np.bincount(filled["row"].to_numpy(), minlength=len(rows)))
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    return Feature(tuple(names), offsets, torch.from_numpy(filled["index"].to_numpy().copy()))


def _age_band(years: int) -> str:
    """The lower end of the age band in years, or "under 18", as in sql/described_users.sql."""
    return next((str(lower) for lower in reversed(AGE_BANDS) if years >= lower), "under 18")


def _words(title: str) -> list[str]:
    return re.findall(r"[^\W\d_]{2,}", title.lower())
