"""`recsys evaluate` on files: only the pairs of the holdout are used, never its ratings."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from recsys.errors import DataRefused, RecsysError, UsageError
from recsys.evaluate.own_files import evaluate_files
from recsys.settings import Settings
from recsys.split.own_file import read_ratings
from tests.support.planted import LEVELS, quick_config, ratings

SOURCE = "synthetic:60x40x1200"  # gives the scale of 1 to 5 stars, and the features of users and movies
IDS = ("user_id", "movie_id")
N = 10
WITHOUT_RATINGS = (58, 59, 60)  # users with features in the source, but without ratings in train
UNKNOWN = (1000, 1001)  # users that the source does not have


@dataclass(frozen=True)
class Evaluated:
    """The report and files of one evaluation."""

    report: dict[str, Any]
    predictions: pl.DataFrame
    lists: pl.DataFrame


def quick_settings(folder: Path) -> Settings:
    """Folders of tests are siblings, so all share a home, which has the source only once."""
    config = {"model": "ordinal", "config": quick_config("ordinal").model_dump(mode="json")}
    values = {"source": SOURCE, "home": folder.parent / "own-files", "model": "ordinal", "n": N, "config": config}
    return Settings.model_validate(values)


def evaluate(folder: Path, train: pl.DataFrame, holdout: pl.DataFrame) -> Evaluated:
    paths = {name: folder / f"{name}.parquet" for name in ("train", "holdout", "predictions", "lists")}
    train.write_parquet(paths["train"])
    holdout.write_parquet(paths["holdout"])
    report = evaluate_files(
        paths["train"],
        paths["holdout"],
        quick_settings(folder),
        predictions=paths["predictions"],
        lists=paths["lists"],
    )
    return Evaluated(report, pl.read_parquet(paths["predictions"]), pl.read_parquet(paths["lists"]))


@pytest.fixture(scope="module")
def train() -> pl.DataFrame:
    """User 1 rated all movies except 39 and 40, which have no ratings. Users 58 to 60 have no ratings."""
    rated = ratings().select(*IDS, "rating").filter((pl.col("user_id") <= 57) & (pl.col("movie_id") <= 38))
    rest = rated.filter(pl.col("user_id") != 1)
    whole = pl.DataFrame({"user_id": [1] * 38, "movie_id": range(1, 39), "rating": [4.0] * 38}).cast(rated.schema)
    return pl.concat([rest[:-200], whole])


@pytest.fixture(scope="module")
def holdout(train: pl.DataFrame) -> pl.DataFrame:
    """Unordered pairs that are not in train, with a repeated pair and unknown users and movies."""
    rated = ratings().select(*IDS, "rating").join(train, on=IDS, how="anti").sample(fraction=1, shuffle=True, seed=1)
    columns = {"user_id": [58, 1000, 1001], "movie_id": [39, 2000, 2001], "rating": [4.0, 2.0, 3.0]}
    strangers = pl.DataFrame(columns)
    return pl.concat([rated, rated.head(1), strangers.cast(rated.schema)])


@pytest.fixture(scope="module")
def evaluated(train: pl.DataFrame, holdout: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    return evaluate(tmp_path_factory.mktemp("evaluated"), train, holdout)


def test_every_row_is_predicted_in_the_order_of_the_holdout(evaluated: Evaluated, holdout: pl.DataFrame) -> None:
    predictions = evaluated.predictions
    assert predictions.columns == ["user_id", "movie_id", "rating_mean", "rating_median"]
    assert predictions.select(IDS).equals(holdout.select(IDS))
    assert predictions.null_count().sum_horizontal().item() == 0
    assert predictions["rating_mean"].is_between(1, 5).all()
    assert predictions["rating_median"].is_in(LEVELS).all()


def test_the_figures_equal_those_of_the_predictions(evaluated: Evaluated, holdout: pl.DataFrame) -> None:
    """The figures are recomputed from the file of predictions alone."""
    stars = holdout["rating"].to_numpy().astype(np.float64)
    metrics = evaluated.report["metrics"]["ordinal"]
    off_mean, off_median = (evaluated.predictions[f"rating_{of}"].to_numpy() - stars for of in ("mean", "median"))
    assert metrics["mae_median"] == pytest.approx(np.abs(off_median).mean())
    assert metrics["mae_mean"] == pytest.approx(np.abs(off_mean).mean())
    assert metrics["rmse_mean"] == pytest.approx(np.sqrt((off_mean**2).mean()))
    assert metrics["rmse_mean"] < evaluated.report["metrics"]["global_mean"]["rmse_mean"]


def test_the_report_has_the_choice_and_is_json(evaluated: Evaluated) -> None:
    report = evaluated.report
    assert report["model"] == "ordinal"
    assert 1 <= report["epochs"] <= 14
    assert report["validation"].keys() == {"ordinal"}
    baselines = ["global_mean", "user_mean", "movie_mean", "bias"]
    assert list(report["metrics"]) == ["ordinal", *baselines, "ease", "als", "popularity"]
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_unknown_users_and_movies_are_predicted_as_index_0(evaluated: Evaluated) -> None:
    """Features of the source still apply. The last two users have none."""
    strangers = evaluated.predictions.filter((pl.col("user_id") > 57) & (pl.col("movie_id") > 38))[-3:]
    assert strangers.select(IDS).rows() == [(58, 39), (1000, 2000), (1001, 2001)]
    of_known, *of_unknown = strangers.select("rating_mean", "rating_median").rows()
    assert of_unknown[0] == of_unknown[1] != of_known


def test_lists_are_for_every_user_of_either_file(
    evaluated: Evaluated, train: pl.DataFrame, holdout: pl.DataFrame
) -> None:
    lists = evaluated.lists
    assert lists.columns == ["user_id", "rank", "movie_id", "score"]
    all_users = set(train["user_id"]) | set(holdout["user_id"])
    assert {*WITHOUT_RATINGS, *UNKNOWN} <= all_users
    assert set(lists["user_id"]) == all_users
    lengths = {user: len(places) for (user,), places in lists.group_by("user_id")}
    unseen = {user: 40 - len(rows) for (user,), rows in train.group_by("user_id")}
    assert lengths == {user: min(N, unseen.get(user, 40)) for user in all_users}
    assert lengths[1] == 2, "the two movies without ratings in train"


def test_lists_are_sorted_without_repeats_or_rated_movies(evaluated: Evaluated, train: pl.DataFrame) -> None:
    lists = evaluated.lists
    assert lists.join(train, on=IDS, how="semi").is_empty()
    assert not lists.select(IDS).is_duplicated().any()
    assert set(lists["movie_id"]) <= set(range(1, 41)), "lists can have movies without ratings in train"
    assert lists.equals(lists.sort("user_id", "rank"))
    for _, places in lists.group_by("user_id"):
        assert places["rank"].to_list() == list(range(1, len(places) + 1))
        assert places["score"].is_sorted(descending=True)


def test_unknown_users_get_popular_movies(evaluated: Evaluated, train: pl.DataFrame) -> None:
    counts = train.group_by("movie_id").len().sort("len", "movie_id", descending=[True, False])
    for stranger in (*WITHOUT_RATINGS, *UNKNOWN):
        shown = evaluated.lists.filter(pl.col("user_id") == stranger).join(counts, on="movie_id")
        assert shown["len"].to_numpy().mean() > counts["len"].to_numpy().mean()


def test_all_unknown_users_get_the_same_list(evaluated: Evaluated) -> None:
    """They get the default list. The others have personal lists."""
    lists = [evaluated.lists.filter(pl.col("user_id") == user).drop("user_id") for user in (*UNKNOWN, *WITHOUT_RATINGS)]
    assert lists[0].equals(lists[1])
    assert all(not other.equals(lists[0]) for other in lists[2:])


def test_the_stars_of_the_holdout_have_no_effect(
    evaluated: Evaluated, train: pl.DataFrame, holdout: pl.DataFrame, tmp_path: Path
) -> None:
    """Removing or inverting them changes neither predictions nor lists."""
    blind = evaluate(tmp_path, train, holdout.drop("rating"))
    opposite = evaluate(tmp_path, train, holdout.with_columns(rating=6 - pl.col("rating")))
    for other in (blind, opposite):
        assert other.predictions.equals(evaluated.predictions)
        assert other.lists.equals(evaluated.lists)
    assert blind.report["metrics"] == {}
    assert opposite.report["metrics"] != evaluated.report["metrics"]
    assert opposite.report["epochs"] == evaluated.report["epochs"]


def test_rows_of_the_holdout_are_predicted_independently(
    evaluated: Evaluated, train: pl.DataFrame, holdout: pl.DataFrame, tmp_path: Path
) -> None:
    """A pair in the holdout must not influence predictions of other pairs."""
    fewer = evaluate(tmp_path, train, holdout.head(50))
    assert fewer.predictions.select(IDS).equals(evaluated.predictions.select(IDS).head(50))
    for column in ("rating_mean", "rating_median"):
        assert fewer.predictions[column].to_list() == pytest.approx(evaluated.predictions[column].head(50).to_list())
    known = evaluated.lists.filter(pl.col("user_id") <= 57)
    assert fewer.lists.filter(pl.col("user_id") <= 57).equals(known)


def test_ratings_in_train_have_an_effect(
    evaluated: Evaluated, train: pl.DataFrame, holdout: pl.DataFrame, tmp_path: Path
) -> None:
    """Otherwise the two tests above could not fail."""
    moved = holdout.unique(IDS, maintain_order=True)[:50]
    rest = holdout.join(moved, on=IDS, how="anti", maintain_order="left")
    before = evaluated.predictions.join(moved, on=IDS, how="anti", maintain_order="left")
    after = evaluate(tmp_path, pl.concat([train, moved]), rest).predictions
    assert after.select(IDS).equals(before.select(IDS))
    assert not after.equals(before)


def test_a_row_in_both_files_is_refused(train: pl.DataFrame, holdout: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match=r"1 of \d+ rows of .* are in .* as well, e\.g\. user \d+, movie \d+"):
        evaluate(tmp_path, pl.concat([train, holdout[:1]]), holdout.unique(IDS))


def test_the_order_of_train_and_other_columns_and_types_do_not_matter(
    evaluated: Evaluated, train: pl.DataFrame, holdout: pl.DataFrame, tmp_path: Path
) -> None:
    shuffled = train.sample(fraction=1, shuffle=True, seed=3)
    other = (pl.col(IDS).cast(pl.Int64), pl.col("rating").cast(pl.Int8), pl.lit(None).alias("note"))
    wide = evaluate(tmp_path, shuffled.with_columns(*other), holdout.with_columns(*other))
    assert wide.predictions.equals(evaluated.predictions)
    assert wide.lists.equals(evaluated.lists)


def test_only_requested_files_are_written(train: pl.DataFrame, holdout: pl.DataFrame, tmp_path: Path) -> None:
    train.write_parquet(tmp_path / "train.parquet")
    holdout.write_parquet(tmp_path / "holdout.parquet")
    report = evaluate_files(
        tmp_path / "train.parquet", tmp_path / "holdout.parquet", quick_settings(tmp_path), predictions=None, lists=None
    )
    assert report["metrics"]
    assert {path.name for path in tmp_path.iterdir()} == {"train.parquet", "holdout.parquet"}


Broken = Callable[[pl.DataFrame], pl.DataFrame]


def with_first(**values: object) -> Broken:
    """Replace values of the first row."""

    def broken(frame: pl.DataFrame) -> pl.DataFrame:
        first = frame.head(1).with_columns(**{name: pl.lit(value) for name, value in values.items()})
        return pl.concat([first, frame[1:]], how="vertical_relaxed")

    return broken


ANY_FILE: list[tuple[Broken, str]] = [
    (lambda frame: frame.drop("movie_id"), "lacks the column movie_id; it has user_id, rating"),
    (lambda frame: frame.head(0), "has no rows"),
    (with_first(user_id=None), "empty fields in user_id, movie_id, rating"),
    (with_first(rating=None), "empty fields in user_id, movie_id, rating"),
    (with_first(rating=3.5), "has 1 ratings off the source's scale 1 to 5, e.g. 3.5; pass the --source"),
    (with_first(rating=float("nan")), "has 1 ratings off the source's scale 1 to 5, e.g. nan"),
    (with_first(rating=6.0), "e.g. 6"),
    (with_first(user_id=2**31), "has 1 rows whose user_id is out of the range of int32, e.g. 2147483648"),
    (with_first(movie_id=-(2**31) - 1), "has 1 rows whose movie_id is out of the range of int32, e.g. -2147483649"),
    (with_first(user_id=1.5), "has user_id of type Float64; ids are whole numbers"),
    (lambda frame: frame.with_columns(pl.col("movie_id").cast(pl.String)), "has movie_id of type String"),
    (lambda frame: frame.with_columns(pl.col("rating").cast(pl.String)), "has rating of type String"),
]
TRAIN_ONLY: list[tuple[Broken, str]] = [
    (lambda frame: frame.drop("rating"), "lacks the column rating; it has user_id, movie_id"),
    (lambda frame: pl.concat([frame, frame[-1:]]), r"rates some \(user_id, movie_id\) twice"),
    (lambda frame: frame.head(3), "3 ratings cannot be split"),
]


def refusal(folder: Path, train: pl.DataFrame, holdout: pl.DataFrame, error: type[RecsysError], words: str) -> str:
    with pytest.raises(error, match=words) as refused:
        evaluate(folder, train, holdout)
    assert not (folder / "predictions.parquet").exists()
    return str(refused.value)


@pytest.mark.parametrize(("breaks", "words"), ANY_FILE + TRAIN_ONLY)
def test_a_bad_train_file_is_refused(
    breaks: Broken, words: str, train: pl.DataFrame, holdout: pl.DataFrame, tmp_path: Path
) -> None:
    message = refusal(tmp_path, breaks(train), holdout, DataRefused, words)
    assert "train.parquet" in message or "cannot be split" in message


@pytest.mark.parametrize(("breaks", "words"), ANY_FILE)
def test_a_bad_holdout_file_is_refused(
    breaks: Broken, words: str, train: pl.DataFrame, holdout: pl.DataFrame, tmp_path: Path
) -> None:
    assert "holdout.parquet" in refusal(tmp_path, train, breaks(holdout), DataRefused, words)


@pytest.mark.parametrize("missing", ["train", "holdout"])
@pytest.mark.parametrize("content", [None, b"", b"user_id,movie_id,rating\n1,1,5\n"])
def test_a_missing_or_invalid_parquet_file_is_wrong_usage(
    missing: str, content: bytes | None, train: pl.DataFrame, holdout: pl.DataFrame, tmp_path: Path
) -> None:
    for name, frame in (("train", train), ("holdout", holdout)):
        frame.write_parquet(tmp_path / f"{name}.parquet")
    broken = tmp_path / f"{missing}.parquet"
    broken.unlink() if content is None else broken.write_bytes(content)
    settings = quick_settings(tmp_path)
    with pytest.raises(UsageError, match=rf"{missing}\.parquet cannot be read as Parquet: .*Give a file with user_id"):
        evaluate_files(tmp_path / "train.parquet", tmp_path / "holdout.parquet", settings, predictions=None, lists=None)


@pytest.mark.parametrize(
    ("predictions", "lists", "message"),
    [
        ("train", None, "would overwrite each other or an input file"),
        (None, "holdout", "would overwrite each other or an input file"),
        ("same", "same", "would overwrite each other"),
        ("train/p", None, "train/p cannot be written: File exists"),
    ],
)
def test_output_paths_are_checked(
    predictions: str | None, lists: str | None, message: str, train: pl.DataFrame, holdout: pl.DataFrame, tmp_path: Path
) -> None:
    """The check happens before training."""
    train.write_parquet(tmp_path / "train")
    holdout.write_parquet(tmp_path / "holdout")
    paths = {"predictions": predictions and tmp_path / predictions, "lists": lists and tmp_path / lists}
    with pytest.raises(UsageError, match=message):
        evaluate_files(tmp_path / "train", tmp_path / "holdout", quick_settings(tmp_path), **paths)  # type: ignore[arg-type]
    assert pl.read_parquet(tmp_path / "train").equals(train)
    assert {path.name for path in tmp_path.iterdir()} == {"train", "holdout"}


def test_file_names_are_not_glob_patterns(train: pl.DataFrame, tmp_path: Path) -> None:
    train.write_parquet(tmp_path / "t[1].parquet")
    train.head(9).write_parquet(tmp_path / "t1.parquet")
    assert len(read_ratings(tmp_path / "t[1].parquet", LEVELS, need_rating=True)) == len(train)


def test_a_network_without_stars_cannot_be_evaluated(tmp_path: Path) -> None:
    settings = Settings.model_validate({"config": {"model": "triplet", "config": {}}})
    with pytest.raises(UsageError, match="triplet orders movies and predicts no stars"):
        evaluate_files(tmp_path / "train", tmp_path / "holdout", settings, predictions=None, lists=None)
