"""The benchmarks of lists on small data: they run, and their arithmetic is correct."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from matplotlib.image import imread

from recsys.compare.data import Data, Parts, load_data
from recsys.models import Pairs
from recsys.rank.ranker import Ranker
from recsys.retrieve.histories import Histories
from recsys.settings import RankConfig, Settings
from recsys.split.cut import cut_validation
from tests import bench_lists
from tests.benches import cold_movies, cold_users, learned, others, quality, scale, scale_parts, tables, trade_off
from tests.benches.others import AlsSetting, list_by_implicit, list_by_stars

SOURCE = ("--source", "synthetic:80x60x2400", "--model", "softmax", "--epochs", "1")
NUMBER = r"-?\d\.\d{4}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home on which the source is checked only once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def data(home: Path) -> Data:
    return load_data(Settings(source=SOURCE[1], model="softmax", home=home))


def trained_on(data: Data, rest: pl.DataFrame, held: pl.DataFrame) -> learned.Trained:
    settings = Settings(model="softmax")
    return learned.train_once(data, Parts(*cut_validation(rest, settings.split, 0), held), settings, 0, 1)


def rows_of(table: str) -> list[list[str]]:
    """Return the cells of a Markdown table without its header."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    bench_lists.main(arguments)
    return capsys.readouterr().out


@pytest.fixture
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two values of two settings and one of the others, which makes 2 combinations instead of 36."""
    for name in ("EASE_L2", "FACTORS", "REGULARIZATION", "ALPHA", "ITERATIONS"):
        n_values = 2 if name in ("EASE_L2", "REGULARIZATION") else 1
        monkeypatch.setattr(others, name, getattr(others, name)[:n_values])


@pytest.mark.slow
@pytest.mark.usefixtures("small_grid")
def test_quality(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    shown = run(capsys, "quality", *SOURCE, "--home", str(home), "--seeds", "2", "--split", "time")
    holdout, validation = (rows_of(part) for part in shown.split("Chosen")[:2])
    makers = [row[0] for row in holdout]
    assert makers == [row[0] for row in validation]
    assert makers[0] == "blend"
    assert {"ease and stars", "als alone", "expected stars alone", "implicit ALS, tuned", "most rated"} < {*makers}
    (blend, *rest) = holdout
    for row in rest:
        mean, difference = (float(cell.split()[0]) for cell in row[1:3])
        assert difference == pytest.approx(float(blend[1].split()[0]) - mean, abs=2e-4)
    assert all(re.fullmatch(NUMBER, cell) for row in holdout + validation for cell in row[3:])


@pytest.mark.slow
def test_cold_users(capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path) -> None:
    shown = run(capsys, "cold-users", *SOURCE, "--home", str(home), "--seeds", "1", "--out", str(tmp_path))
    assert [row[0] for row in rows_of(shown)] == ["0", "1", "3", "5", "10"]
    assert all(int(row[1]) <= 16 for row in rows_of(shown))  # a fifth of 80
    assert imread(tmp_path / "cold-start.png").shape[2] == 4


@pytest.mark.slow
def test_cold_movies(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    shown = run(capsys, "cold-movies", *SOURCE, "--home", str(home), "--seeds", "1")
    assert [row[0] for row in rows_of(shown)] == ["blend", "ease", "als", "popularity"]
    assert all(0 <= float(row[1].split()[0]) <= 1 for row in rows_of(shown))


def test_speed(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    shown = run(capsys, "speed", *SOURCE, "--home", str(home))
    ((source, users, *_, n, median, seconds, speed),) = rows_of(shown)
    assert (source, users, n) == (SOURCE[1], "80", "100")
    assert float(median) == sorted(map(float, seconds.split()))[1]
    assert float(speed.replace(",", "")) > 0


@pytest.mark.slow
def test_trade_off(
    capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trade_off, "GRID", {knob: (0.0, values[-1]) for knob, values in trade_off.GRID.items()})
    rows = rows_of(run(capsys, "trade-off", *SOURCE, "--home", str(home), "--out", str(tmp_path)))
    assert [(knob, float(value)) for knob, value, *_ in rows] == [
        (knob, value) for knob, values in trade_off.GRID.items() for value in values
    ]
    plain = [row[2:] for row in rows if row[1] == "0"]
    assert plain[0] == plain[1]  # both knobs are at 0
    of_diversity = [row for row in rows if row[0] == "diversity"]
    assert float(of_diversity[-1][5]) > float(of_diversity[0][5])
    assert imread(tmp_path / "trade-off.png").shape[2] == 4


@pytest.mark.slow
def test_publishing(capsys: pytest.CaptureFixture[str]) -> None:
    shown = run(capsys, "publish", "--users", "300", "--movies", "211", "--n", "10", "--nights", "1")
    ((night, seconds, _, _, megabytes, _),) = rows_of(shown)
    assert night == "1"
    assert float(seconds) > 0 < float(megabytes)


def test_scale(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ("--users", "300", "--movies", "200", "--dim", "8", "--n", "20", "--repeats", "1")
    shown = run(capsys, "scale", *sizes)
    ours, theirs = rows_of(shown)
    assert (ours[0], theirs[0]) == tuple(scale.MAKERS.values())
    assert "Of 300 users' lists" in shown


def test_lists_that_differ_only_in_ties_are_recognised(tmp_path: Path) -> None:
    """Movies 1 and 2 score 1 and 1 + 1e-6 for all users, movie 3 scores 0.5."""
    np.save(tmp_path / "users.npy", np.ones((3, 1), dtype=np.float32))
    np.save(tmp_path / "movies.npy", np.array([[0], [1], [1 + 1e-6], [0.5]], dtype=np.float32))

    def write(maker: str, items: list[int]) -> None:
        frame = pl.DataFrame({"user_idx": [1, 1, 2, 2], "rank": [1, 2, 1, 2], "item_idx": items})
        frame.write_parquet(tmp_path / f"{maker}.parquet")

    write("ours", [2, 1, 2, 1])
    write("implicit", [1, 2, 2, 1])
    tied = scale.compare_lists(tmp_path)
    assert (tied.n_users, tied.same_movies) == (2, 0.5)
    assert tied.largest_difference < 2e-6
    write("implicit", [2, 3, 2, 1])
    assert scale.compare_lists(tmp_path).largest_difference == pytest.approx(0.5)


def test_generated_histories_have_every_movie_and_no_repeats(tmp_path: Path) -> None:
    made = scale_parts.make_inputs(tmp_path, 50, 400, 4)
    offsets, items = np.load(tmp_path / "offsets.npy"), np.load(tmp_path / "items.npy")
    users = np.repeat(np.arange(51), np.diff(offsets))
    assert made == {"ratings": len(items)}
    assert len(np.unique(users * 401 + items)) == len(items) == offsets[-1]
    assert set(items) == set(range(1, 401))
    assert set(users) == set(range(1, 51))
    assert np.load(tmp_path / "users.npy").shape == (51, 4)


def test_share_below_by_hand() -> None:
    """Liked movies score 3 and 1, others 0, 1, 2 and 5; the last movie was rated but not liked."""
    score = np.array([[3.0, 1.0, 0.0, 1.0, 2.0, 5.0, 4.0]])
    liked = np.array([[True, True, *[False] * 5]])
    others = np.array([[False, False, True, True, True, True, False]])
    assert cold_movies.share_below(score, liked, others).tolist() == [(3 / 4 + 1.5 / 4) / 2]
    assert np.isnan(cold_movies.share_below(score, liked, others & False)).all()


def test_a_user_counts_once_for_any_number_of_seeds() -> None:
    measured = (([1, 2], [0.2, 1.0]), ([1, 3], [0.4, 0.0]))
    seeds = [pl.DataFrame({"user_id": users, "x": values}) for users, values in measured]
    assert tables.pool_seeds(seeds, "x").tolist() == pytest.approx([0.3, 1.0, 0.0])


def test_the_halves_have_no_common_users() -> None:
    relevant = pl.DataFrame({"user_id": [1, 1, 2, 3, 4, 5], "movie_id": [1, 2, 1, 1, 1, 1]})
    first, second = quality.halve(relevant, seed=3)
    assert (len(first), len(second)) == (2, 3)
    assert sorted([*first["user_id"], *second["user_id"]]) == [1, 2, 3, 4, 5]


def test_held_out_users_are_new_users(data: Data) -> None:
    """Lists leave out the given movies; relevant are the liked ones among the others."""
    rest, held = cold_users.hold_out_users(data, seed=0)
    assert set(rest["user_id"]) & set(held["user_id"]) == set()
    assert held["user_id"].n_unique() == 16
    trained = trained_on(data, rest, held)
    ranker = learned.make_ranker(trained, RankConfig())
    strangers = cold_users.gather_strangers(ranker, trained)
    known = strangers.given(5, seed=0)
    assert known.seen.sizes().tolist() == [5] * 16
    assert known.user_idx.tolist() == [0] * 16
    whole = {user: set(part["movie_id"]) for (user,), part in held.group_by("user_id")}
    given = cold_users.name_rows([seen_of(known.seen)], strangers, trained)
    relevant = cold_users.name_rows([cold_users.find_relevant(strangers, known, 4.0)], strangers, trained)
    liked = held.filter(pl.col("rating") >= 4).join(given, on=["user_id", "movie_id"], how="anti")
    assert sorted(relevant.select("user_id", "movie_id").rows()) == sorted(liked.select("user_id", "movie_id").rows())
    for maker in (cold_users.list_strangers, cold_users.list_most_rated):
        lists = cold_users.name_rows(list(maker(ranker, known)), strangers, trained)
        assert lists.group_by("user_id").len()["len"].to_list() == [10] * 16
        assert lists.join(given, on=["user_id", "movie_id"], how="semi").is_empty()
    counts = rest.group_by("movie_id").len().sort("len", descending=True)
    first_user = lists.filter(pl.col("user_id") == lists["user_id"][0]).sort("rank")
    seen = set(given.filter(pl.col("user_id") == lists["user_id"][0])["movie_id"])
    assert seen < whole[lists["user_id"][0]]
    shown = first_user.join(counts, on="movie_id", how="left", maintain_order="left")["len"].to_list()
    assert shown == counts.filter(~pl.col("movie_id").is_in(seen))["len"].to_list()[:10]


def seen_of(histories: Histories) -> tuple[torch.Tensor, ...]:
    return histories.user_of_each(), torch.ones_like(histories.items), histories.items


def test_held_out_movies_are_new(data: Data) -> None:
    rest, held = cold_movies.hold_out_movies(data, seed=0)
    assert set(rest["movie_id"]) & set(held["movie_id"]) == set()
    trained = trained_on(data, rest, held)
    ranker = learned.make_ranker(trained, RankConfig())
    item_idx = torch.from_numpy(trained.learner.vocabulary.encode_movies(held["movie_id"].unique().to_numpy()))
    assert torch.isin(item_idx, ranker.new_movies.item_M).all()
    placed = cold_movies.measure_placement(ranker, trained, 4.0)
    liked = held.filter((pl.col("rating") >= 4) & pl.col("user_id").is_in(rest["user_id"].unique().to_list()))
    assert set(placed["user_id"]) <= set(liked["user_id"])
    assert placed.columns == ["user_id", "blend", "ease", "als", "popularity"]


@pytest.fixture(scope="module")
def holdout(data: Data) -> tuple[Ranker, learned.Stage]:
    rest, held = cut_validation(data.ratings, Settings().split, 1)
    trained = trained_on(data, rest, held)
    return learned.make_ranker(trained, RankConfig()), trained.on_holdout


def test_lists_by_stars_are_sorted_by_the_network(holdout: tuple[Ranker, learned.Stage]) -> None:
    ranker, stage = holdout
    vocabulary = stage.learner.vocabulary
    lists = list_by_stars(ranker, 60, vocabulary).filter(pl.col("user_id") == vocabulary.user_ids[0]).sort("rank")
    item_idx = torch.from_numpy(vocabulary.encode_movies(lists["movie_id"].to_numpy()))
    moment = torch.full_like(item_idx, ranker.rated_at)
    stars = ranker.network.predict(Pairs(torch.ones_like(item_idx), item_idx, moment)).mean_B
    assert len(item_idx) == int(ranker.listable.sum()) - len(ranker.histories.of(1))
    assert (stars.diff() <= 1e-6).all()
    assert not torch.isin(ranker.histories.of(1), item_idx).any()


def test_lists_of_implicit_have_no_seen_or_unrated_movies(holdout: tuple[Ranker, learned.Stage]) -> None:
    ranker, stage = holdout
    lists = list_by_implicit(ranker.histories, AlsSetting(4, 1.0, 2.0, 3), 60, stage)
    known = stage.known.select("user_id", "movie_id")
    assert lists.join(known, on=["user_id", "movie_id"], how="semi").is_empty()
    assert set(lists["movie_id"]) <= set(known["movie_id"])
    n_rated, sizes = known["movie_id"].n_unique(), known.group_by("user_id").len()
    expected = {user: n_rated - size for user, size in sizes.rows()}
    assert dict(lists.group_by("user_id").len().rows()) == {user: n for user, n in expected.items() if n}
