from collections.abc import Sequence

import polars as pl
import pytest

from recsys.encode.films import find_films

Entry = tuple[int, str, int | None]
Link = tuple[int, str | None, int | None]


def films_of(entries: Sequence[Entry], links: Sequence[Link] = ()) -> dict[int, int]:
    movies = pl.DataFrame(entries, schema={"movie_id": pl.Int32, "title": pl.String, "year": pl.Int16}, orient="row")
    linked = pl.DataFrame(links, schema={"movie_id": pl.Int32, "imdb_id": pl.String, "tmdb_id": pl.Int32}, orient="row")
    return find_films(movies, linked)


@pytest.mark.parametrize(
    ("entries", "films"),
    [
        ([(246, "Chasing Amy", 1997), (268, "Chasing Amy", 1997)], {268: 246}),
        ([(9, "Heat", 1995), (3, "HEAT!", 1995), (5, "heat ", 1995)], {5: 3, 9: 3}),
        ([(1, "Am\u00e9lie", 2001), (2, "Ame\u0301lie", 2001), (3, "Amelie", 2001)], {2: 1, 3: 1}),
        ([(1, "Cape Fear", 1962), (2, "Cape Fear", 1991)], {}),
        ([(1, "Heat", None), (2, "Heat", None), (3, "Heat", 1995)], {}),
        ([(1, "$", 1971), (2, "...", 1971)], {}),
        ([(1, "Part 1", 2003), (2, "Part 2", 2003)], {}),
        ([(1, "\u041e\u043d\u0430", 2013), (2, "\u043e\u043d\u0430", 2013)], {2: 1}),
        ([], {}),
    ],
)
def test_title_and_year(entries: list[Entry], films: dict[int, int]) -> None:
    assert films_of(entries) == films


WAR = [(34048, "War of the Worlds", 2005), (64997, "War of the Worlds", 2005)]


@pytest.mark.parametrize(
    ("links", "films"),
    [
        ([(34048, "0407304", 74), (64997, "0449040", 34812)], {}),  # two productions
        ([(34048, "0290538", 4912), (64997, "0270288", 4912)], {64997: 34048}),  # one id is shared
        ([(34048, "0081454", None), (64997, "0079285", 19761)], {64997: 34048}),  # IMDb withdrew a duplicate
        ([(34048, "0407304", None), (64997, "0449040", None)], {}),
        ([(34048, None, 74), (64997, None, 34812)], {}),
        ([(34048, "0407304", 74)], {64997: 34048}),
        ([(34048, None, None), (64997, None, None)], {64997: 34048}),
        ([(34048, "0", 0), (64997, "00", 0)], {64997: 34048}),  # 0 is no id
    ],
)
def test_outside_ids_decide_between_namesakes(links: list[Link], films: dict[int, int]) -> None:
    assert films_of(WAR, links) == films


def test_a_shared_outside_id_is_one_film_under_any_title() -> None:
    entries: list[Entry] = [(5, "Seven", 1995), (2, "Se7en", 1996), (3, "Eight", 1995), (4, "Nine", None)]
    assert films_of(entries, [(5, "0114369", None), (2, "114369", 807), (3, None, 807), (4, "0", 0)]) == {3: 2, 5: 2}


def test_the_title_of_two_films_identifies_neither() -> None:
    """Entry 9 has no ids and could be either film; 7 shares an id with one of them."""
    entries = [*WAR, (9, "War of the Worlds", 2005), (7, "War of the Worlds", 2005)]
    links = [(34048, "0407304", 74), (64997, "0449040", 34812), (7, None, 74)]
    assert films_of(entries, links) == {34048: 7}


def test_links_of_other_movies_and_repeated_links_change_nothing() -> None:
    assert films_of([(1, "Heat", 1995)], [(2, "0113277", 949), (3, "0113277", 949), (1, "0113277", 949)]) == {}
    assert films_of(WAR, [(34048, "1", 74), (34048, "2", 75), (64997, "2", 75)]) == {}
