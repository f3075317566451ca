from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from recsys.encode.vocabulary import Vocabulary
from recsys.rank.fit import fit_ranker
from recsys.rank.lists import list_blocks, list_for_segment
from recsys.rank.place import rank_movies
from recsys.rank.ranker import Ranker
from recsys.rank.read_rules import Rule, Rules
from recsys.rank.ruled import apply_rules
from recsys.rank.write_lists import (
    LISTS,
    SIMILAR,
    AuditInputs,
    name_segments,
    write_audit_inputs,
    write_default_lists,
    write_lists,
    write_similar,
)
from recsys.settings import AlsConfig, EaseConfig, RankConfig
from tests.support.planted import FEATURES, fit
from tests.support.rankers import LEARNER, VOCABULARY, tastes, weights_of

CONFIG = RankConfig(ease=EaseConfig(l2=20.0), als=AlsConfig(embedding_dim=4))
SPREAD = Vocabulary(VOCABULARY.user_ids * np.int32(10), VOCABULARY.movie_ids * np.int32(100))  # ids differ from indices
SPREAD_LEARNER = replace(LEARNER, vocabulary=SPREAD)
BLOCKED = Rule(
    "blocked[0]",
    pl.DataFrame({"user_id": [10, 20], "movie_id": [300, 300]}, schema={"user_id": pl.Int32, "movie_id": pl.Int32}),
)
ELIGIBLE = Rule(
    "eligible[0]", pl.DataFrame({"movie_id": [*range(100, 1300, 100), 4000]}, schema={"movie_id": pl.Int32})
)
RULES = Rules(min_ratings=0, blocked=(BLOCKED,), eligible=(ELIGIBLE,))


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    network, _ = fit("ordinal", train=tastes()[0])
    return fit_ranker(network, tastes()[0], LEARNER, CONFIG, weights_of(CONFIG))


def test_lists_of_all_users(ranker: Ranker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.rank.place.MIN_USERS_PER_BLOCK", 7)
    monkeypatch.setattr("recsys.rank.place.SCORES_PER_BLOCK", 1)
    path = tmp_path / "lists.parquet"
    write_lists(ranker, 4, SPREAD, path)
    assert pq.read_schema(path).equals(LISTS)
    assert pq.ParquetFile(path).num_row_groups > 5, "block by block"
    assert pl.read_parquet(path).equals(pl.concat(list_blocks(rank_movies(ranker, 4), SPREAD)))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_default_lists_of_every_segment(ranker: Ranker, tmp_path: Path) -> None:
    path = tmp_path / "default.parquet"
    write_default_lists(ranker, 4, SPREAD, path)
    rows = pl.read_parquet(path)
    assert rows.schema == {"segment": pl.String, "rank": pl.Int32, "movie_id": pl.Int32, "score": pl.Float64}
    segments = name_segments(ranker.properties.names)
    assert rows["segment"].unique(maintain_order=True).to_list() == [" ".join(stated) or "all" for stated in segments]
    for stated in segments:
        own = rows.filter(pl.col("segment") == (" ".join(stated) or "all")).drop("segment")
        assert own.equals(list_for_segment(ranker, stated, 4, SPREAD))
    assert set(rows["movie_id"]) <= set(SPREAD.movie_ids.tolist())


def test_similar_movies(ranker: Ranker, tmp_path: Path) -> None:
    path = tmp_path / "similar.parquet"
    write_similar(ranker, FEATURES, 3, SPREAD, path)
    assert pq.read_schema(path).equals(SIMILAR)
    rows = pl.read_parquet(path)
    assert rows["movie_id"].unique(maintain_order=True).to_list() == [100 * item for item in range(1, 39)]
    assert rows["rank"].to_list() == [1, 2, 3] * 38
    assert rows.filter(pl.col("movie_id") == pl.col("similar_movie_id")).is_empty()


def test_segments_are_properties_and_each_gender_of_each_age() -> None:
    names = ("gender=F", "gender=M", "age=18", "age=under 18", "occupation=writer")
    assert name_segments(names) == [
        (),
        ("gender=F",),
        ("gender=M",),
        ("age=18",),
        ("age=under 18",),
        ("occupation=writer",),
        ("gender=F", "age=18"),
        ("gender=F", "age=under 18"),
        ("gender=M", "age=18"),
        ("gender=M", "age=under 18"),
    ]


@pytest.mark.parametrize(
    ("names", "segments"),
    [((), [()]), (("gender=F",), [(), ("gender=F",)]), (("occupation=writer",), [(), ("occupation=writer",)])],
)
def test_without_some_properties_there_are_fewer_segments(
    names: tuple[str, ...], segments: list[tuple[str, ...]]
) -> None:
    assert name_segments(names) == segments


def test_audit_inputs_by_hand(ranker: Ranker, tmp_path: Path) -> None:
    """Movies 1 to 12 and the new movie 40 are available. Most users have rated several of the first 12."""
    ruled = apply_rules(ranker, RULES, SPREAD_LEARNER)
    lists, known = tmp_path / "lists.parquet", AuditInputs(tmp_path / "audit")
    known.folder.mkdir()
    write_lists(ruled, 10, SPREAD, lists)
    write_audit_inputs(ruled, RULES, lists, 10, SPREAD, known)
    names = ("available", "shortened", "blocked", "caps")
    assert sorted(path.name for path in known.folder.iterdir()) == sorted(f"{name}.parquet" for name in names)
    assert pl.read_parquet(known.available)["movie_id"].to_list() == [*range(100, 1300, 100), 4000]
    assert pl.read_parquet(known.blocked).rows() == [(10, 300, None), (20, 300, None)]
    assert pl.read_parquet(known.caps).schema == {
        "movie_id": pl.Int32,
        "group_name": pl.String,
        "at_most": pl.Int32,
    }
    shortened = pl.read_parquet(known.shortened)
    assert shortened.schema == {"user_id": pl.Int32, "n_available": pl.Int64}
    expected = {user: n for user in range(1, 61) if (n := n_left(ranker, user)) < 10}
    assert 0 < len(expected) < 60
    assert dict(shortened.iter_rows()) == {10 * user: n for user, n in expected.items()}
    assert shortened["user_id"].is_sorted()


def test_available_movies_are_counted_independently_of_the_lists(ranker: Ranker, tmp_path: Path) -> None:
    """Otherwise the audit could not detect lists that are too short."""
    ruled, lists = apply_rules(ranker, RULES, SPREAD_LEARNER), tmp_path / "lists.parquet"
    write_lists(ruled, 10, SPREAD, lists)
    pl.read_parquet(lists).filter(pl.col("rank") <= 3).write_parquet(lists)
    write_audit_inputs(ruled, RULES, lists, 10, SPREAD, AuditInputs(tmp_path))
    expected = {10 * user: n for user in range(1, 61) if (n := n_left(ranker, user)) < 10}
    assert any(n > 3 for n in expected.values())
    assert dict(pl.read_parquet(AuditInputs(tmp_path).shortened).iter_rows()) == expected


def test_a_user_without_available_movies_is_in_the_audit_inputs(ranker: Ranker, tmp_path: Path) -> None:
    movie = int(ranker.histories.of(1)[0])
    only = Rule("eligible[0]", pl.DataFrame({"movie_id": [100 * movie]}, schema={"movie_id": pl.Int32}))
    rules = Rules(min_ratings=0, eligible=(only,))
    ruled, lists = apply_rules(ranker, rules, SPREAD_LEARNER), tmp_path / "lists.parquet"
    write_lists(ruled, 1, SPREAD, lists)
    write_audit_inputs(ruled, rules, lists, 1, SPREAD, AuditInputs(tmp_path))
    assert dict(pl.read_parquet(AuditInputs(tmp_path).shortened).iter_rows())[10] == 0


def n_left(ranker: Ranker, user: int) -> int:
    shown = {*range(1, 13), 40} - set(ranker.histories.of(user).tolist())
    return len(shown - {3} if user <= 2 else shown)
