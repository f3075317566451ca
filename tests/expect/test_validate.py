"""Great Expectations and the validator that most tests use in its place agree on every rule of the data checks.

tests/warehouse/test_audit.py does the same for the rules of the audit.
"""

import inspect
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from recsys.checks.check import check_ratings
from recsys.checks.expectations import list_expectations
from recsys.checks.rules import ROW_RULES, SHIFT_RULES, UNREADABLE, table_rules
from recsys.errors import DataRefused
from recsys.expect.validate import Observation, expect, opened_database, validate_views
from recsys.home import Home
from recsys.settings import CheckConfig, ShiftConfig
from recsys.warehouse.publish import publish
from tests.support.snapshots import START, Tables, make_run, make_tables, reject, write_tables
from tests.support.validators import validate_both
from tests.support.warehouses import make_frames, make_outcome, write_night

LONG_AGO = datetime(1994, 1, 1, tzinfo=UTC)


def validate_tables(home: Home, tables: Tables, config: CheckConfig, *, n_rejects: int = 0) -> dict[str, Observation]:
    """The observations of one check. The snapshot that was published last is that of `make_tables`."""
    write_tables(home.snapshots / "planted" / "before", make_tables())
    outcome = replace(make_outcome("20261120T030000Z"), snapshot="before")
    publish(outcome, write_night(home.root / "night", make_frames()), home)
    rejects = [reject("ratings", 1000 + line) for line in range(n_rejects)]
    snapshot = write_tables(home.snapshots / "planted" / "tonight", tables, rejects, genres=["Drama"])
    found: dict[str, Observation] = {}

    def validate(*arguments: object) -> dict[str, Observation]:
        found.update(validate_both(*arguments))  # type: ignore[arg-type]
        return found

    with suppress(DataRefused):
        check_ratings(snapshot, make_run(home), config, None, validate)
    return found


def list_failed(found: Mapping[str, Observation]) -> set[str]:
    return {rule for rule, seen in found.items() if not seen.passed}


def test_both_validators_agree_on_good_data(home: Home) -> None:
    found = validate_tables(home, make_tables(), CheckConfig())
    assert list_failed(found) == set()
    assert found["enough_ratings"].observed == 600
    assert {*found} >= {UNREADABLE, *(rule.name for rule in ROW_RULES)}


def break_every_row_rule(tables: Tables) -> None:
    movies, users, ratings, tags, links = (tables[name] for name in ("movies", "users", "ratings", "tags", "links"))
    movies += [
        {"movie_id": 21, "title": " ", "year": 1990, "genres": []},
        {"movie_id": 22, "title": "Heat", "year": 2200, "genres": []},
        {"movie_id": 23, "title": "Heat", "year": 1995, "genres": ["Robots"]},
        movies[0] | {"title": "Movie 1 again"},
    ]
    users[0]["age"], users[1]["gender"] = 130, "female"
    users.append(users[2] | {"age": 31})
    ratings[0]["rating"], ratings[1]["rated_at"], ratings[2]["movie_id"] = 9.0, LONG_AGO, 99
    ratings.append(ratings[3] | {"rated_at": START + timedelta(days=1)})
    ratings[4]["rated_at"] = START + timedelta(days=400)  # long after all others
    tags[0]["tag"], tags[1]["tagged_at"], tags[2]["movie_id"] = " ", LONG_AGO, 99
    links[0]["movie_id"] = 99
    links.append(links[1] | {"tmdb_id": 7})


def test_both_validators_agree_where_every_row_rule_is_broken(home: Home) -> None:
    tables = make_tables()
    break_every_row_rule(tables)
    found = validate_tables(home, tables, CheckConfig(max_bad_share=1), n_rejects=3)
    row_rules = {UNREADABLE, *(rule.name for rule in ROW_RULES)}
    assert list_failed(found) & row_rules == row_rules
    assert found[UNREADABLE].observed == 3


def test_both_validators_agree_where_every_table_rule_is_broken(home: Home) -> None:
    """Only one rating is left, by a new user."""
    tables = make_tables() | {"ratings": [{"user_id": 99, "movie_id": 1, "rating": 1.0, "rated_at": START}]}
    tables["ratings"].append(tables["ratings"][0] | {"movie_id": 99})
    limits = {f"{rule.name}_{side}": 0.01 for rule in SHIFT_RULES for side in ("warn", "stop")}
    limits |= {"rating_count_share_warn": 0.9, "rating_count_share_stop": 0.9}
    config = CheckConfig(shift=ShiftConfig(**limits))
    found = validate_tables(home, tables, config)
    assert list_failed(found) >= {*limits, *(rule.name for rule in table_rules(config))}


def test_a_figure_at_its_limit_passes(home: Home) -> None:
    with opened_database("limits") as connection:
        connection.execute("create table comparison as select 0.5::double as rating_psi, 0.9::double as share")
        found = validate_both(
            "limits",
            {
                "comparison": [
                    expect("psi", "", "ExpectColumnMaxToBeBetween", column="rating_psi", max_value=0.5),
                    expect("share", "", "ExpectColumnMaxToBeBetween", column="share", min_value=0.9),
                    expect("beyond", "", "ExpectColumnMaxToBeBetween", column="share", min_value=0.91),
                ]
            },
            "limits",
            START,
            None,
        )
    assert list_failed(found) == {"beyond"}


def test_a_rule_that_cannot_be_evaluated_is_an_error() -> None:
    with opened_database("broken") as connection:
        connection.execute("create table ratings as select 1 as user_id")
        expectation = expect("no_such_column", "", "ExpectColumnMaxToBeBetween", column="rating", max_value=5)
        with pytest.raises(AssertionError, match="rule no_such_column could not be checked"):
            validate_views("broken", {"ratings": [expectation]}, "broken", START, None)


def test_expectations_have_unique_names(home: Home) -> None:
    measures = {rule.name: 0.5 for rule in SHIFT_RULES}
    config = CheckConfig()
    views = list_expectations(table_rules(config), measures, config.shift)
    names = [each.rule for expectations in views.values() for each in expectations]
    assert len(names) == len({*names})


def test_checks_use_great_expectations_by_default() -> None:
    assert inspect.signature(check_ratings).parameters["validate"].default is validate_views
