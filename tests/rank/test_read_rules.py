import logging
import re
import subprocess
from pathlib import Path

import polars as pl
import pytest

from recsys.errors import UsageError
from recsys.rank.read_rules import FORMS, Rules, read_rules
from recsys.settings import RulesConfig, Settings
from tests.support.catalogues import Catalogue, write_catalogue

RULES = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
EXAMPLES = [
    (kind, text)
    for kind in FORMS
    for text in re.findall(r"```sql\n(.*?)```", RULES.split(f"\n## {kind}\n")[1].split("\n## ")[0], flags=re.DOTALL)
]


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return write_catalogue(tmp_path)


def write(path: Path, body: str | bytes) -> str:
    path.write_bytes(body if isinstance(body, bytes) else body.encode())
    return str(path)


def test_the_docs_have_a_working_example_of_every_form(catalogue: Catalogue) -> None:
    shown: dict[str, list[set[str]]] = {kind: [] for kind in FORMS}
    for kind, text in EXAMPLES:
        ((rule,),) = [getattr(catalogue.read(**{kind: [text]}), kind)]
        assert len(rule.table) > 0
        shown[kind].append({*rule.table.columns})
    for kind, forms in FORMS.items():
        assert [form for form in forms if {*form} not in shown[kind]] == []
    assert len(EXAMPLES) == len(re.findall("```sql", RULES))


def test_rules_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of docs/rules.md."""
    (block,) = re.findall(r"```bash\n(.*?)```", RULES, flags=re.DOTALL)
    shown = subprocess.run(["bash", "-c", f"{block}\nenv -0"], capture_output=True, text=True, check=True).stdout
    for name, _, value in (line.partition("=") for line in shown.split("\0")):
        if name.startswith("RECSYS_RULES"):
            monkeypatch.setenv(name, value)
    rules = Settings().rules
    select = "select user_id, 'Horror' as genre from users where age < 18"
    assert rules == RulesConfig(min_ratings=20, blocked=("rules/blocked.csv", select))
    assert Settings().config_hash() != Settings(rules=RulesConfig()).config_hash()


def test_a_movie_in_a_rule_stands_for_all_entries_of_its_film(catalogue: Catalogue) -> None:
    """Movies 10, 20 and 70 are one film. An eligible movie is only the entry that is named."""
    entries = {
        "blocked": ("select 20 as movie_id", "select 1 as user_id, 70 as movie_id", "select 'War' as genre limit 0"),
        "eligible": ("select 20 as movie_id",),
        "caps": ("select 10 as movie_id, 'a' as group_name, 1 as at_most union all select 30, 'a', 1",),
    }
    paths = (catalogue.movies, catalogue.users, catalogue.ratings)
    rules = read_rules(RulesConfig(**entries), *paths, film_of={20: 10, 70: 10})
    for_all, for_one, no_genre = (rule.table for rule in rules.blocked)
    assert for_all.rows() == [(10,), (20,), (70,)]
    assert for_one.select("user_id", "movie_id").rows() == [(1, 10), (1, 20), (1, 70)]
    assert no_genre.is_empty()
    assert rules.eligible[0].table.rows() == [(20,)]
    assert rules.caps[0].table["movie_id"].to_list() == [10, 20, 30, 70]


def test_default_settings_have_no_rules(catalogue: Catalogue) -> None:
    rules = catalogue.read()
    assert (rules.min_ratings, rules.blocked, rules.eligible, rules.caps) == (0, (), (), ())
    assert rules.blocked_table().schema == {"user_id": pl.Int32, "movie_id": pl.Int32, "genre": pl.String}
    assert rules.caps_table().schema == {"movie_id": pl.Int32, "group_name": pl.String, "at_most": pl.Int32}
    assert len(rules.blocked_table()) == len(rules.caps_table()) == 0


def test_every_form_of_blocked(catalogue: Catalogue, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.parquet"
    pl.DataFrame({"movie_id": [30, 10], "user_id": [1, 2]}).write_parquet(pairs)
    rules = catalogue.read(
        blocked=[
            write(tmp_path / "movies.csv", "movie_id\n50\n10\n"),
            "select 'Sci-Fi' as genre",
            str(pairs),
            "select user_id, 'Horror' as genre from users where age < 18",
        ]
    )
    assert [rule.name for rule in rules.blocked] == ["blocked[0]", "blocked[1]", "blocked[2]", "blocked[3]"]
    assert [rule.table.to_dicts() for rule in rules.blocked] == [
        [{"movie_id": 10}, {"movie_id": 50}],
        [{"genre": "Sci-Fi"}],
        [{"movie_id": 10, "user_id": 2}, {"movie_id": 30, "user_id": 1}],
        [{"user_id": 1, "genre": "Horror"}, {"user_id": 3, "genre": "Horror"}],
    ]
    assert rules.blocked_table().rows() == [
        *((None, 10, None), (None, 50, None)),
        (None, None, "Sci-Fi"),
        *((2, 10, None), (1, 30, None)),
        *((1, None, "Horror"), (3, None, "Horror")),
    ]


def test_groups_of_different_entries_are_different(catalogue: Catalogue, tmp_path: Path) -> None:
    franchise = write(tmp_path / "franchise.csv", "movie_id,group_name,at_most\n10,1979,1\n20,1979,1\n")
    rules = catalogue.read(caps=["select movie_id, unnest(genres) as group_name, 4 as at_most from movies", franchise])
    assert rules.caps_table().filter(pl.col("movie_id") < 30).rows() == [
        *((10, "caps[0] Horror", 4), (10, "caps[0] Sci-Fi", 4), (20, "caps[0] Action", 4), (20, "caps[0] Sci-Fi", 4)),
        *((10, "caps[1] 1979", 1), (20, "caps[1] 1979", 1)),
    ]


def test_group_names_can_be_numbers(catalogue: Catalogue) -> None:
    rules = catalogue.read(caps=["select movie_id, movie_id // 30 as group_name, 2 as at_most from movies"])
    assert rules.caps[0].table["group_name"].unique().sort().to_list() == ["0", "1", "2"]


def test_selects_read_all_three_tables(catalogue: Catalogue) -> None:
    """The tables have the columns of a snapshot."""
    rules = catalogue.read(
        blocked=[
            "select movie_id from ratings group by movie_id having count(*) < 2 and avg(rating) >= 4",
            "select user_id, movie_id from ratings where rated_at < timestamptz '2001-01-01'",
        ],
        eligible=["select movie_id from movies where title like 'A%' or year < 1970"],
    )
    assert [len(rule.table) for rule in (*rules.blocked, *rules.eligible)] == [4, 9, 3]


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbfmovie_id\n50\n10\n",  # a byte order mark
        b'movie_id\r\n"50"\r\n"10"\r\n',  # quoted numbers are numbers in a CSV
        b"movie_id\n50\n10\n50\n50\n",  # repeated rows
        b"movie_id\n50\n10",
    ],
)
def test_common_csv_dialects_are_read(catalogue: Catalogue, tmp_path: Path, body: bytes) -> None:
    (rule,) = catalogue.read(blocked=[write(tmp_path / "blocked.csv", body)]).blocked
    assert rule.table.rows() == [(10,), (50,)]


@pytest.mark.parametrize("entry", ["select movie_id from movies where false", "movie_id\n"])
def test_a_table_without_rows_blocks_nothing(catalogue: Catalogue, tmp_path: Path, entry: str) -> None:
    given = entry if entry.startswith("select") else write(tmp_path / "blocked.csv", entry)
    (rule,) = catalogue.read(blocked=[given]).blocked
    assert rule.table.is_empty()
    assert rule.table.schema == {"movie_id": pl.Int32}


def test_unknown_ids_are_reported_and_ignored(
    catalogue: Catalogue, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entry = write(tmp_path / "blocked.csv", "user_id,movie_id\n1,10\n1,990\n1,980\n2,990\n77,10\n")
    with caplog.at_level(logging.WARNING):
        (rule,) = catalogue.read(blocked=[entry]).blocked
    assert rule.table.rows() == [(1, 10)]
    message = [
        "has 1 users that the source does not have, e.g. user_id 77; they are ignored",
        "has 2 movies that the source does not have, e.g. movie_id 980; they are ignored",
    ]
    assert [record.getMessage() for record in caplog.records] == [
        f"rules.blocked[0] ({entry}) {one}" for one in message
    ]


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        (
            "blocked",
            "title\nHeat\n",
            r"has the columns \(title\)\. Next: give it exactly \(movie_id\) or \(genre\) or \(user_id",
        ),
        ("blocked", "userid,movie_id\n1,10\n", r"has the columns \(userid, movie_id\)"),
        ("blocked", "user_id\n1\n", r"has the columns \(user_id\)"),
        ("blocked", "movie_id;genre\n1;Drama\n", r"has the columns \(movie_id;genre\)"),
        ("blocked", "movie_id,movie_id\n10,10\n", r"has the columns \(movie_id, movie_id_duplicated_0\)"),
        ("eligible", "genre\nDrama\n", r"exactly \(movie_id\)$"),
        ("caps", "movie_id,group_name\n10,a\n", r"exactly \(movie_id, group_name, at_most\)"),
        ("blocked", "movie_id\n10\n\n20\n", "has 1 rows with an empty movie_id"),
        ("blocked", "user_id,genre\n1,\n2,\n", "has 2 rows with an empty genre"),
        ("blocked", "movie_id\nHeat\n", "has movie_id of type String. Next: write it as whole numbers"),
        ("blocked", "movie_id\n10.5\n", "has movie_id of type Float64"),
        (
            "blocked",
            "movie_id\n99999999999\n",
            "1 rows with movie_id outside of -2147483648 to 2147483647, e.g. 99999",
        ),
        ("blocked", "movie_id\n99999999999999999999\n", "e.g. 99999999999999999999"),
        (
            "blocked",
            "genre\nhorror\n",
            "the genre 'horror', but the source only has Action, Drama, Horror, Sci-Fi. Next: correct",
        ),
        ("blocked", "genre\n\n", "an empty genre"),
        ("caps", "movie_id,group_name,at_most\n10,a,0\n", "with at_most outside of 1 to"),
        ("caps", "movie_id,group_name,at_most\n10,a,1.5\n", "at_most of type Float64"),
        ("caps", "movie_id,group_name,at_most\n10,a,3\n20,a,1\n", "both 1 and 3 as at_most of the group 'a'"),
        ("eligible", "movie_id\n990\n", "has no movie of the source"),
        ("eligible", "movie_id\n", "has no movie of the source"),
        ("blocked", "", "cannot be read"),
        ("blocked", b"movie_id\n\xff\xfe\n", "cannot be read"),
        ("blocked", "movie_id\n10,20\n", "cannot be read"),
    ],
)
def test_an_invalid_table_is_refused(
    catalogue: Catalogue, tmp_path: Path, kind: str, body: str | bytes, message: str
) -> None:
    entry = write(tmp_path / "given.csv", body)
    with pytest.raises(UsageError, match=message) as raised:
        catalogue.read(**{kind: [entry]})
    assert str(raised.value).startswith(f"rules.{kind}[0] ({entry}) ")
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("blocked", "select movie_id from movies union all select null", "has 1 rows with an empty movie_id"),
        (
            "blocked",
            "select movie_id::varchar as movie_id from movies",
            "of type String. Next: write it as whole numbers",
        ),
        ("blocked", "select movie_id / 1 as movie_id from movies", "of type Float64"),
        ("blocked", "select true as movie_id", "of type Boolean"),
        ("blocked", "select genres as genre from movies", "has genre of type List.*. Next: write it as text"),
        ("blocked", "select 7 as genre", "has genre of type Int32. Next: write it as text"),
        ("caps", "select movie_id, 0.5 as group_name, 1 as at_most from movies", "text or whole numbers"),
        ("blocked", "select * from movies", r"has the columns \(movie_id, title, year, genres\)"),
        ("blocked", "select user_id, 'Musical' as genre from users", "genre 'Musical', but the source"),
        ("blocked", "copy movies to 'x.csv'", "is not a file"),
    ],
)
def test_an_invalid_select_is_refused(catalogue: Catalogue, kind: str, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        catalogue.read(**{kind: ["select 30 as movie_id" if kind != "caps" else CAP, text]})
    assert str(raised.value).startswith(f"rules.{kind}[1] ")


CAP = "select 10 as movie_id, 'a' as group_name, 1 as at_most"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.csv", "is not a file. Next: use a CSV or Parquet file, or a select from movies, users, ratings"),
        ("", "is not a file"),
        ("folder.csv", "is not a file"),
        ("rules.txt", "has the suffix '.txt'. Next: use a .csv or .parquet file"),
        ("rules", "has the suffix ''"),
        ("invalid.parquet", "cannot be read"),
        ("https://example.org/rules.csv", "is not a file"),
        ("slect movie_id from movies where " + " or ".join(["movie_id = 1"] * 300), "cannot be read: .*too long"),
    ],
)
def test_an_unreadable_file_is_refused(catalogue: Catalogue, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    for there in ("rules.txt", "rules", "invalid.parquet"):
        write(tmp_path / there, "movie_id\n10\n")
    entry = name if name.startswith(("https", "slect")) else str(tmp_path / name)
    with pytest.raises(UsageError, match=message):
        catalogue.read(blocked=[entry])


def test_max_rows_applies_to_files(catalogue: Catalogue, tmp_path: Path) -> None:
    pl.DataFrame({"movie_id": [10, 20, 30]}).write_parquet(tmp_path / "many.parquet")
    csv = write(tmp_path / "many.csv", "movie_id\n10\n20\n30\n")
    for entry in (str(tmp_path / "many.parquet"), csv):
        assert len(catalogue.read(blocked=[entry], max_rows=3).blocked) == 1
        with pytest.raises(UsageError, match=r"has more than 2 rows\. Next: shorten it, or raise rules.max_rows"):
            catalogue.read(blocked=[entry], max_rows=2)


def test_categorical_and_enum_columns_are_text(catalogue: Catalogue, tmp_path: Path) -> None:
    path = tmp_path / "genres.parquet"
    pl.DataFrame({"genre": pl.Series(["Drama", "Drama"], dtype=pl.Categorical)}).write_parquet(path)
    rules: Rules = catalogue.read(blocked=[str(path), "select 'Drama'::enum('Drama', 'War') as genre"])
    assert [rule.table.rows() for rule in rules.blocked] == [[("Drama",)], [("Drama",)]]
