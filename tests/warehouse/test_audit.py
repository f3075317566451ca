"""The audit rules on rows. Each broken table is reported by one rule only. Great Expectations finds the same."""

import re
import shutil
from dataclasses import replace
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

import sql
from recsys.errors import PublishError
from recsys.expect.validate import Observation
from recsys.home import Home
from recsys.settings import AuditConfig
from recsys.warehouse import publish as publish_module
from recsys.warehouse.audit import AuditInputs
from recsys.warehouse.audit_rules import CONTRACT, MEASURES, ROW_RULES
from recsys.warehouse.build import STATS
from tests.support.validators import validate_both
from tests.support.warehouses import Frames, audit, make_frames, make_outcome, publish, write_night

NO_LIMITS = AuditConfig(**dict.fromkeys(AuditConfig.model_fields))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with which every test begins: the Parquet files of a night, and the warehouse that it published as r1.

    User 1 has rated movie 2 and gets 3 and 4 as recommendations. User 2 has rated 3 and gets 4 and 1, and so on.
    """
    folder = tmp_path_factory.mktemp("sound")
    publish(make_outcome("r1"), write_night(folder / "night", make_frames()), Home(folder / "home"))
    return folder


@pytest.fixture
def file(folder: Path, tmp_path: Path) -> Path:
    """A copy of that warehouse."""
    return Path(shutil.copyfile(Home(folder / "home").warehouse, tmp_path / "copy.duckdb"))


@pytest.fixture
def inputs(folder: Path) -> AuditInputs:
    """The audit inputs of that night."""
    return AuditInputs(folder / "night" / "ratings.parquet", limits=NO_LIMITS)


def execute(file: Path, statement: str) -> Path:
    with duckdb.connect(file) as connection:
        connection.execute(statement)
    return file


def write_warehouse(frames: Frames, path: Path, run_id: str = "r1") -> Path:
    """Writes a warehouse with these tables, without the checks of `publish`."""
    path.unlink(missing_ok=True)
    users = frames["users"].with_columns(segment=pl.lit("all"))
    frames["ratings"].write_parquet(path.with_suffix(".parquet"))
    with duckdb.connect(path) as connection:
        connection.execute(sql.read("schema"))
        for name in ("recommendations", "default_recommendations", "similar_movies", "movies", "users"):
            has_run = name not in ("movies", "users")
            frame = users if name == "users" else frames[name]
            connection.register("frame", frame.with_columns(run_id=pl.lit(run_id)) if has_run else frame)
            connection.execute(f"insert into {name} by name from frame")
            connection.unregister("frame")
    return count_again(path, path.with_suffix(".parquet"))


def count_again(file: Path, ratings: Path) -> Path:
    """Fills the statistics from other ratings."""
    with duckdb.connect(file) as connection:
        for table in STATS:
            connection.execute(f"delete from {table}")
            connection.execute(f"insert into {table} by name {sql.read(table)}", {"ratings": str(ratings)})
    return file


def write_frame(path: Path, **columns: Any) -> Path:
    pl.DataFrame(columns).write_parquet(path)
    return path


FIRST, SECOND = "where user_id = 1 and rank = 1", "where user_id = 1 and rank = 2"
ALL = "where segment = 'all' and rank"
BROKEN = {  # statement on the tables: complaint
    "delete from users where user_id = 4; delete from user_stats where user_id = 4":
        "audit_known: 2 rows of lists .*, for example user_id 4, rank 1, movie_id 2",
    f"update recommendations set movie_id = 99 {FIRST}":
        "audit_known: 1 .*, for example user_id 1, rank 1, movie_id 99",
    f"delete from recommendations {SECOND}":
        "audit_length: 1 users.*, for example user_id 1, n_listed 1, n_expected 2",
    "delete from recommendations where user_id = 1":
        "audit_length: 1 users.*, for example user_id 1, n_listed 0, n_expected 2",
    f"update recommendations set rank = 3 {SECOND}":
        "audit_ranks: 1 rows.*, for example user_id 1, rank 3, rank_expected 2",
    "update recommendations set rank = rank - 1":
        "audit_ranks: 8 rows.*, for example user_id 1, rank 0, rank_expected 1",
    f"update recommendations set movie_id = 3 {SECOND}":
        "audit_distinct: 1 films.*, for example user_id 1, movie_id 3, n_times 2",
    f"update recommendations set movie_id = 2 {FIRST}":
        "audit_unseen: 1 recommended movies.*, for example user_id 1, rank 1, movie_id 2",
    f"update recommendations set score = 'nan' {SECOND}":
        "audit_finite: 1 scores.*, for example user_id 1, rank 2, score nan",
    f"update recommendations set rating_hat = '-inf' {SECOND}":
        "audit_finite: 1 scores.*, for example user_id 1, rank 2, rating_hat -inf",
    f"update recommendations set score = 1.5 {SECOND}":
        "audit_order: 1 rows.*, for example user_id 1, rank 2, score 1.5, score_before 1.0",
    f"update recommendations set because_movie_ids = [2, 1] {FIRST}":
        "audit_because: 1 movies.*, for example user_id 1, because_movie_id 1",
    f"update recommendations set because_movie_ids = [2, 2] {FIRST}":
        "audit_because_distinct: 1 films.*, for example user_id 1, rank 1, because_movie_id 2, n_times 2",
    "update recommendations set served_by = 'taste' where user_id = 1":
        "audit_served_by: 1 lists .*, for example user_id 1, served_by taste",
    "update recommendations set served_by = 'default' where user_id = 1":
        "audit_strangers: 1 users .*, for example user_id 1, served_by default, n_ratings 1",
    "delete from default_recommendations where segment = 'all'":
        "audit_default_all: 1 tables of default lists .*, for example n_segments 1",
    f"delete from default_recommendations {ALL} = 2":
        "audit_default_length: 1 .* segment all, n_listed 1, n_expected 2",
    f"update default_recommendations set rank = 0 {ALL} = 1":
        "audit_ranks: 1 .* segment all, rank 0, rank_expected 1",
    f"update default_recommendations set movie_id = 2 {ALL} = 1":
        "audit_distinct: 1 .* segment all, movie_id 2, n_times 2",
    f"update default_recommendations set score = 'inf' {ALL} = 1":
        "audit_finite: 1 .* segment all, rank 1, score inf",
    f"update default_recommendations set score = 0.25 {ALL} = 1":
        "audit_order: 1 .* segment all, rank 2, score 0.5, score_before 0.25",
    f"update default_recommendations set movie_id = 99 {ALL} = 1":
        "audit_known: 1 .* segment all, rank 1, movie_id 99",
    "update similar_movies set rank = 3 where movie_id = 1 and rank = 2":
        "audit_ranks: 1 .* similar_to 1, rank 3, rank_expected 2",
    "update similar_movies set similarity = 'nan' where movie_id = 1 and rank = 2":
        "audit_finite: 1 .* similar_to 1, rank 2, score nan",
    "update similar_movies set similarity = 2 where movie_id = 1 and rank = 2":
        "audit_order: 1 .* similar_to 1, rank 2, score 2.0, score_before 1.0",
    "update similar_movies set similar_movie_id = 1 where movie_id = 1 and rank = 2":
        "audit_similar_self: 1 movies .* movie_id 1, rank 2",
    "update similar_movies set movie_id = 99 where movie_id = 4":
        "audit_known: 2 .* similar_to 99, rank 1, movie_id 1",
    "update similar_movies set similar_movie_id = 99 where movie_id = 1 and rank = 2":
        "audit_known: 1 .* similar_to 1, rank 2, movie_id 99",
    "update users set segment = 'age=99' where user_id = 2":
        "audit_segments: 1 users .*, for example user_id 2, segment age=99",
    "insert into links (movie_id) values (99)":
        "audit_links: 1 movies .*, for example movie_id 99",
    "delete from movie_stats where movie_id = 3":
        "audit_movie_stats: 1 movies .*, for example movie_id 3, n_expected 1, stars_expected 5.0",
    "update movie_stats set stars_4 = 1, stars_5 = 0 where movie_id = 3":
        "audit_movie_stats: 1 .* movie_id 3, n_expected 1, n_found 1, stars_expected 5.0, stars_found 4.0",
    "update user_stats set rating_mean = 4.9 where user_id = 1":
        "audit_user_stats: 1 users .*, for example user_id 1, n_expected 1, n_found 1, stars_expected 5.0",
    "update user_stats set last_rated_at = null where user_id = 1":
        "audit_user_stats: 1 users .*, for example user_id 1, n_expected 1, n_found 1, stars_expected 5.0",
    "update default_recommendations set run_id = 'r0'":
        r"audit_run: 1 rows .* for example run_id r0, n_rows 4\. The served tables stay as they are",
}  # fmt: skip


@pytest.mark.parametrize(("statement", "complaint"), BROKEN.items())
def test_only_the_broken_rule_is_reported(file: Path, inputs: AuditInputs, statement: str, complaint: str) -> None:
    with pytest.raises(PublishError, match=rf"run r1 failed their audit: {complaint}") as error:
        audit(execute(file, statement), "r1", 2, inputs)
    assert str(error.value).count("audit_") == 1


TWIN = "insert into movies select * replace (5 as movie_id) from movies where movie_id = 3;"
OF_TWINS = {  # statement on the tables, with movie 5 as another entry of film 3: complaint
    f"update recommendations set movie_id = 5 {SECOND}":
        "audit_distinct: 1 films.*, for example user_id 1, movie_id 3, n_times 2",
    "update recommendations set movie_id = 5 where user_id = 2 and rank = 1":
        "audit_unseen: 1 recommended movies.*, for example user_id 2, rank 1, movie_id 5",
    "update similar_movies set similar_movie_id = 5 where movie_id = 3 and rank = 1":
        "audit_similar_self: 1 movies.*, for example movie_id 3, rank 1",
}  # fmt: skip


@pytest.mark.parametrize(("statement", "complaint"), OF_TWINS.items())
def test_entries_of_one_film_count_as_the_same_movie(
    file: Path, inputs: AuditInputs, tmp_path: Path, statement: str, complaint: str
) -> None:
    inputs = replace(inputs, available=write_frame(tmp_path / "available.parquet", movie_id=[1, 2, 3, 4, 5]))
    audit(count_again(execute(file, TWIN), inputs.ratings), "r1", 2, inputs)
    with pytest.raises(PublishError, match=complaint) as error:
        audit(execute(file, statement), "r1", 2, inputs)
    assert str(error.value).count("audit_") == 1


def test_a_reason_is_rated_above_the_middle_of_the_scale(file: Path, inputs: AuditInputs, tmp_path: Path) -> None:
    """User 1 has rated one movie, so it is not below their mean."""
    ratings = pl.read_parquet(inputs.ratings).with_columns(
        rating=pl.when(pl.col("user_id") == 1).then(2.5).otherwise(3)
    )
    ratings.write_parquet(tmp_path / "ratings.parquet")
    inputs = replace(inputs, ratings=tmp_path / "ratings.parquet", rating_scale=(1.0, 2.0, 3.0, 4.0))
    count_again(file, inputs.ratings)
    audit(file, "r1", 2, inputs)
    complaint = "audit_because_liked: 1 reasons .* user_id 1, because_movie_id 2, rating 2.5, at_least 3.0"
    with pytest.raises(PublishError, match=complaint):
        audit(file, "r1", 2, replace(inputs, rating_scale=(1.0, 2.0, 3.0, 4.0, 5.0)))


def test_a_warehouse_without_lists_is_refused(file: Path, inputs: AuditInputs, tmp_path: Path) -> None:
    """Every user has rated every movie, so no list is too short."""
    pairs = make_frames()["users"].select("user_id").join(make_frames()["movies"].select("movie_id"), how="cross")
    ratings = pairs.join(make_frames()["ratings"].select("rated_at").head(1), how="cross")
    ratings.with_columns(rating=pl.lit(5.0)).write_parquet(tmp_path / "ratings.parquet")
    inputs = replace(inputs, ratings=tmp_path / "ratings.parquet")
    count_again(file, inputs.ratings)
    with pytest.raises(PublishError, match=r"audit_any: 1 tables .*, for example users_without_a_list 4\.") as error:
        audit(execute(file, "delete from recommendations"), "r1", 2, inputs)
    assert str(error.value).count("audit_") == 1


def test_every_broken_rule_is_named(file: Path, inputs: AuditInputs) -> None:
    execute(file, f"update recommendations set movie_id = 2, because_movie_ids = [2, 1] {FIRST}")
    with pytest.raises(PublishError, match=r"audit_unseen: .*; audit_because: "):
        audit(file, "r1", 2, inputs)


VIEW = "create or replace view default_recommendations_named as select * from default_recommendations;"
ALTERED = {
    "alter table users drop column zip_code":
        "1 .* table_name users, column_name zip_code, promised VARCHAR, has_",
    "alter table runs add column mood varchar":
        "1 .* runs, column_name mood, found VARCHAR, has_comment False",
    "alter table metrics rename column value to figure":
        "2 .* metrics, column_name figure, found DOUBLE not null",
    "alter table similar_movies alter column similarity set data type float":
        "1 .* similar_movies, column_name similarity, promised DOUBLE not null, found FLOAT not null",
    "alter table users alter column age set data type integer":
        "1 .* age, promised SMALLINT, found INTEGER",
    "alter table run_steps alter column seconds drop not null":
        "1 .* promised DOUBLE not null, found DOUBLE,",
    "comment on column users.age is null":
        "1 .* users, column_name age, promised SMALLINT, found SMALLINT, has_c",
    "comment on table users is null":
        "1 .* table_name users, column_name , promised table not null, found table",
    "create table notes (words varchar)":
        "2 .* notes, column_name , found table not null, has_comment False",
    "drop table quarantine":
        "7 .* quarantine, column_name , promised table not null",
    "drop view recommendations_named":
        "13 .* recommendations_named, column_name , promised view not null",
    VIEW:
        r"\d+ .* default_recommendations_named, ",
}  # fmt: skip


@pytest.mark.parametrize(("statement", "complaint"), ALTERED.items())
def test_columns_that_differ_from_the_schema_are_refused(
    file: Path, inputs: AuditInputs, statement: str, complaint: str
) -> None:
    with pytest.raises(PublishError, match=f"audit_contract: {complaint}") as error:
        audit(execute(file, statement), "r1", 2, inputs)
    assert str(error.value).count("audit_") == 1


def test_audit_does_not_change_the_file(file: Path, inputs: AuditInputs) -> None:
    before = file.read_bytes()
    audit(file, "r1", 2, inputs)
    assert file.read_bytes() == before


def test_without_inputs_only_rules_on_the_tables_are_checked(file: Path) -> None:
    """The audit of a restored run: the ratings of its users are unknown, but the ranks of its lists are known."""
    audit(execute(file, f"update recommendations set movie_id = 2 {FIRST}"), "r1", None, None)
    with pytest.raises(PublishError, match="audit_ranks: "):
        audit(execute(file, f"update recommendations set rank = 3 {SECOND}"), "r1", None, None)


class TestLength:
    """A list has `n` movies, or as many as the user's ratings, the available movies and the rules leave."""

    def audit(self, frames: Frames, folder: Path, n: int = 2, *, available: Any = None, **shortened: int) -> None:
        """`shortened` is the number of movies that rules leave to a user, as in user_1=1."""
        tonight = write_night(folder / "night", frames)
        users = {"user_id": [int(name.removeprefix("user_")) for name in shortened], "n_available": shortened.values()}
        inputs = AuditInputs(
            tonight.ratings,
            available=write_frame(folder / "available.parquet", movie_id=available) if available else None,
            shortened=write_frame(folder / "shortened.parquet", **users) if shortened else None,
            limits=NO_LIMITS,
        )
        audit(write_warehouse(frames, folder / "next.duckdb"), "r1", n, inputs)

    def with_unrated_movie(self, frames: Frames) -> Frames:
        unrated = frames["movies"].head(1).with_columns(movie_id=pl.lit(5, pl.Int32))
        return frames | {"movies": pl.concat([frames["movies"], unrated])}

    def test_a_user_with_few_unrated_movies_has_a_short_list(self, tmp_path: Path) -> None:
        """User 1 has rated all four movies and has no list; the others have three movies left, and n is 10."""
        frames = make_frames(n=4)
        more = frames["ratings"].head(1).drop("movie_id").join(frames["movies"].select("movie_id"), how="cross")
        more = more.filter(pl.col("movie_id") != 2).select(frames["ratings"].columns)
        frames["ratings"] = pl.concat([frames["ratings"], more])
        frames["recommendations"] = frames["recommendations"].filter(pl.col("user_id") != 1)
        self.audit(frames, tmp_path, n=10)

    def test_an_unrated_movie_is_not_required_unless_it_is_available(self, tmp_path: Path) -> None:
        frames = self.with_unrated_movie(make_frames(n=4))
        self.audit(frames, tmp_path, n=10)
        with pytest.raises(PublishError, match=r"audit_length: 4 users .* user_id 1, n_listed 3, n_expected 4"):
            self.audit(frames, tmp_path, n=10, available=[1, 2, 3, 4, 5])

    def test_rules_may_leave_a_user_fewer_movies(self, tmp_path: Path) -> None:
        frames = make_frames()
        frames["recommendations"] = frames["recommendations"].remove(user_id=1, rank=2)
        self.audit(frames, tmp_path, user_1=1)
        with pytest.raises(PublishError, match=r"audit_length: 1 users .* user_id 2, n_listed 2, n_expected 1"):
            self.audit(frames, tmp_path, user_1=1, user_2=1)

    def test_a_user_without_ratings_has_a_list(self, tmp_path: Path) -> None:
        frames = make_frames()
        user = frames["users"].tail(1).with_columns(user_id=pl.lit(9, pl.Int32))
        frames["users"] = pl.concat([frames["users"], user])
        with pytest.raises(PublishError, match=r"audit_length: 1 users .* user_id 9, n_listed 0, n_expected 2"):
            self.audit(frames, tmp_path)
        theirs = frames["recommendations"].head(2)
        theirs = theirs.with_columns(
            pl.lit(9, pl.Int32).alias("user_id"),
            pl.lit("default").alias("served_by"),
            pl.Series("because_movie_ids", [[], []], dtype=pl.List(pl.Int32)),
        )
        frames["recommendations"] = pl.concat([frames["recommendations"], theirs])
        self.audit(frames, tmp_path)


def test_a_movie_that_is_not_available_is_refused(file: Path, inputs: AuditInputs, tmp_path: Path) -> None:
    """Movie 1 is in the lists of two users and in two default lists, and is similar to two movies."""
    available = write_frame(tmp_path / "available.parquet", movie_id=[2, 3, 4])
    with pytest.raises(PublishError, match=r"audit_available: 1 .* movie_id 1, n_rows 6"):
        audit(file, "r1", 2, replace(inputs, available=available))


def test_a_blocked_movie_is_refused(file: Path, inputs: AuditInputs, tmp_path: Path) -> None:
    no_genre = pl.Series([None], dtype=pl.String)
    blocked = write_frame(tmp_path / "blocked.parquet", user_id=[1], movie_id=[3], genre=no_genre)
    with pytest.raises(PublishError, match=r"audit_blocked: 1 .* user_id 1, rank 1, movie_id 3"):
        audit(file, "r1", 2, replace(inputs, blocked=blocked))


class TestCaps:
    """A list of two may have at most one of the movies 1, 2 and 3, so 4 fills the other place."""

    RIGHT = ((3, 4), (1, 4), (1,), (4, 2), (4, 1))

    def audit(self, file: Path, inputs: AuditInputs, lists: tuple[tuple[int, ...], ...], folder: Path) -> None:
        """`lists` are those of users 1 to 4, who have rated the movies 2, 3, 4 and 1, and that of segment all."""
        *of_users, of_all = lists
        rows = [
            f"({user}, {rank}, {movie}, 1.0, 4.0, [{user % 4 + 1}], 'history', 'r1')"
            for user, movies in enumerate(of_users, 1)
            for rank, movie in enumerate(movies, 1)
        ]
        defaults = [f"('all', {rank}, {movie}, 1.0, 'r1')" for rank, movie in enumerate(of_all, 1)]
        execute(
            file,
            "delete from recommendations; delete from default_recommendations; update users set segment = 'all'; "
            f"insert into recommendations values {', '.join(rows)}; "
            f"insert into default_recommendations values {', '.join(defaults)}",
        )
        names = ["caps[0] a"] * 3
        caps = write_frame(folder / "caps.parquet", movie_id=[1, 2, 3], group_name=names, at_most=[1, 1, 1])
        lengths = [len(movies) for movies in of_users]  # audit_length accepts these, so only audit_room reports
        shortened = write_frame(folder / "shortened.parquet", user_id=[1, 2, 3, 4], n_available=lengths)
        audit(file, "r1", 2, replace(inputs, caps=caps, shortened=shortened))

    def test_lists_that_caps_leave_short_pass(self, file: Path, inputs: AuditInputs, tmp_path: Path) -> None:
        self.audit(file, inputs, self.RIGHT, tmp_path)

    @pytest.mark.parametrize(
        ("place", "movies", "complaint"),
        [
            (0, (3,), "audit_room: 1 .* example user_id 1, movie_id_with_room 4"),
            (4, (1,), "audit_room: 1 .* example segment all, movie_id_with_room 4"),
            (0, (3, 1), r"audit_caps: 1 .* user_id 1, group_name caps\[0\] a, at_most 1"),
            (4, (2, 1), r"audit_caps: 1 .* segment all, group_name caps\[0\] a, at_most 1"),
        ],
    )
    def test_a_list_that_is_too_short_or_above_a_cap_is_refused(
        self, file: Path, inputs: AuditInputs, tmp_path: Path, place: int, movies: tuple[int, ...], complaint: str
    ) -> None:
        lists = (*self.RIGHT[:place], movies, *self.RIGHT[place + 1 :])
        with pytest.raises(PublishError, match=complaint) as error:
            self.audit(file, inputs, lists, tmp_path)
        assert str(error.value).count("audit_") == 1


class TestGreatExpectations:
    """Nights validate with Great Expectations, other tests with SQL counts. Both must find the same."""

    @pytest.fixture
    def measured(self, file: Path) -> Path:
        """A warehouse whose run has a value of every measure."""
        values = ", ".join(
            f"('r1', 'ordinal', 'tonight', 'all', '{name}', 0.5)" for name in {measure.name for measure in MEASURES}
        )
        return execute(file, f"insert or replace into metrics values {values}")

    def observe(self, file: Path, inputs: AuditInputs, *, fails: bool) -> dict[str, Observation]:
        seen: dict[str, Observation] = {}

        def keep(*given: Any) -> dict[str, Observation]:
            seen.update(validate_both(*given))
            return seen

        check = partial(audit, file, "r1", 2, inputs, validate=keep)
        if fails:
            with pytest.raises(PublishError):
                check()
        else:
            check()
        return seen

    def test_finds_the_same_on_sound_tables(self, measured: Path, inputs: AuditInputs) -> None:
        """Every limit is 0.5, which the measured values just meet."""
        limits = AuditConfig(**dict.fromkeys(AuditConfig.model_fields, 0.5))
        seen = self.observe(measured, replace(inputs, limits=limits), fails=False)
        assert len(seen) == len(ROW_RULES) + len(MEASURES)
        assert all(observation.passed for observation in seen.values())

    def test_finds_the_same_on_tables_that_break_the_rules(
        self, measured: Path, inputs: AuditInputs, tmp_path: Path
    ) -> None:
        """With and without caps, because caps change the rules that check lengths.

        All rules are broken except two: audit_any needs a table without rows, and audit_contract is tested below.
        """
        execute(
            measured,
            f"""
            delete from users where user_id = 4;
            delete from recommendations {SECOND};
            update recommendations set served_by = 'taste', because_movie_ids = [2, 2] {FIRST};
            update recommendations set served_by = 'default', because_movie_ids = [1] where user_id = 2;
            insert into recommendations values (2, 9, 3, 7, 4, [], 'default', 'r1');
            update recommendations set movie_id = 1 where user_id = 3;
            update recommendations set score = 'nan' where user_id = 4;
            delete from default_recommendations {ALL} > 0;
            delete from default_recommendations where rank = 2;
            update default_recommendations set run_id = 'r0';
            update similar_movies set similar_movie_id = 1 where movie_id = 1;
            update users set segment = 'age=99';
            insert into links (movie_id) values (99);
            delete from movie_stats;
            """,
        )
        no_genre = pl.Series([None], dtype=pl.String)
        without_caps = replace(
            inputs,
            available=write_frame(tmp_path / "available.parquet", movie_id=[2, 3, 4]),
            blocked=write_frame(tmp_path / "blocked.parquet", user_id=[2], movie_id=[4], genre=no_genre),
            limits=AuditConfig(**{measure.setting: 0.6 if measure.at_least else 0.4 for measure in MEASURES}),
            rating_scale=(1.0, 11.0),
        )
        caps = write_frame(tmp_path / "caps.parquet", movie_id=[4, 1], group_name=["a", "a"], at_most=[1, 1])
        passed = [
            {rule for rule, observation in self.observe(measured, given, fails=True).items() if observation.passed}
            for given in (without_caps, replace(without_caps, caps=caps))
        ]
        assert passed[0] & passed[1] == {CONTRACT.name, "audit_any"}

    def test_finds_the_same_on_other_columns(self, file: Path, inputs: AuditInputs) -> None:
        assert self.observe(execute(file, "drop view recommendations_named"), inputs, fails=True) == {
            CONTRACT.name: Observation(False, 13)
        }

    def test_the_page_of_the_results_needs_no_network(self, home: Home, tmp_path: Path) -> None:
        """Publishes like a night, with Great Expectations."""
        docs = tmp_path / "data_docs"
        tonight = replace(write_night(tmp_path / "night", make_frames()), audit_docs=docs)
        publish_module.publish(make_outcome("r1"), tonight, home)
        index = (docs / "index.html").read_text(encoding="utf-8")
        assert "Audit of r1" in index
        assert 'class="fail"' not in index
        assert "<td>measures</td>" in index
        for rule in ROW_RULES:
            assert f"<td>{rule.table}</td><td>{rule.name}</td><td>no {rule.offence}</td>" in unescape(index)
        assert not re.search(r"(src|href)=", index)


def test_every_audit_file_is_a_rule() -> None:
    names = [rule.name for rule in ROW_RULES]
    assert sorted(names) == sorted(path.stem for path in sql.FOLDER.glob("audit_*.sql"))
    assert ROW_RULES[names.index("audit_unseen")].offence.startswith(
        "recommended movies that the user has already rated"
    )


def test_every_limit_belongs_to_a_measure() -> None:
    assert {measure.setting for measure in MEASURES} == set(AuditConfig.model_fields)
    assert {measure.name for measure in MEASURES} <= set(re.findall(r" as (audit_\w+),", sql.read("measure_lists")))
