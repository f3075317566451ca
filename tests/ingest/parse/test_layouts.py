from pathlib import Path

import pytest

from recsys.errors import SourceError
from recsys.ingest.archives.archives import opened
from recsys.ingest.parse.layouts import LAYOUTS, atomic_title, file_names, published_title, recognise, whole


@pytest.mark.parametrize(
    ("published", "title", "year"),
    [
        ("Toy Story (1995)", "Toy Story", 1995),
        ("Matrix, The (1999)", "Matrix, The", 1999),
        ("Seven (a.k.a. Se7en) (1995)", "Seven (a.k.a. Se7en)", 1995),
        ("96 Minutes (2011) ", "96 Minutes", 2011),
        ("Heidi Fleiss: Hollywood Madam (1995) ", "Heidi Fleiss: Hollywood Madam", 1995),
        ("Land Before Time III (1995) (V)", "Land Before Time III (V)", 1995),
        ("Death Note: Desu nôto (2006–2007)", "Death Note: Desu nôto", 2006),
        ("Fawlty Towers (1975-1979)", "Fawlty Towers", 1975),
        ("Stranger Things (2016-)", "Stranger Things", 2016),
        ("2001: A Space Odyssey (1968)", "2001: A Space Odyssey", 1968),
        ("1984", "1984", None),
        ("unknown", "unknown", None),
        ("Babylon 5", "Babylon 5", None),
        ("(1995)", "(1995)", None),
        ("Odd (19955)", "Odd (19955)", None),
        ("Misérables, Les (1995)(2012)", "Misérables, Les (1995)", 2012),
    ],
)
def test_title_and_year_are_split(published: str, title: str, year: int | None) -> None:
    assert published_title({"title": published}) == (title, year)


@pytest.mark.parametrize(
    ("title", "year", "expected"),
    [
        ("Toy Story", "1995", ("Toy Story", 1995)),
        ("unkonwn", "unkonwn", ("unknown", None)),
        ("Land Before Time III (1995)", "V", ("Land Before Time III (V)", 1995)),
    ],
)
def test_the_wheel_gives_the_published_titles(title: str, year: str, expected: tuple[str, int | None]) -> None:
    assert atomic_title({"title": title, "year": year}) == expected


@pytest.mark.parametrize(("text", "value"), [("7", 7), (" 7 ", 7), ("7.0", 7), ("0", 0), ("", None), ("  ", None)])
def test_whole_numbers(text: str, value: int | None) -> None:
    assert whole("age", text, 7) == value


@pytest.mark.parametrize("text", ["8", "-1", "1.5", "1_0", "٣", "x", "1e0", "1" * 5000])
def test_invalid_whole_numbers_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=rf"^age '{text[:50]}' is not a whole number from 0 to 7$"):
        whole("age", text, 7)


# ---- distinguishing layouts


def write_dat(folder: Path, *more: str, movies: bytes = b"1::Toy Story (1995)::Comedy\n") -> Path:
    folder.mkdir()
    (folder / "ratings.dat").write_text("1::1::5::838985046\n")
    (folder / "movies.dat").write_bytes(movies)
    for name in more:
        (folder / name).write_text("")
    return folder


LATIN = "1::Misérables, Les (1995)::Drama\n".encode("latin-1")


@pytest.mark.parametrize(
    ("folder", "more", "movies", "layout"),
    [
        ("data", ["users.dat"], b"", "ml-1m"),
        ("data", ["tags.dat"], b"", "ml-10m"),
        ("ml-10M100K", ["users.dat"], b"", "ml-1m"),  # a file counts more than a name
        ("ml-1m", ["tags.dat"], LATIN, "ml-10m"),
        ("ml-10M100K", [], LATIN, "ml-10m"),
        ("ml-1m", [], b"", "ml-1m"),
        ("ml-10m", ["users.dat", "tags.dat"], b"", "ml-10m"),
        ("ml-1m-copy", ["users.dat", "tags.dat"], b"", "ml-1m"),
        ("data", [], LATIN, "ml-1m"),
        ("data", [], "1::Misérables, Les (1995)::Drama\n".encode(), "ml-10m"),
    ],
)
def test_ml_1m_and_ml_10m_are_distinguished(
    folder: str, more: list[str], movies: bytes, layout: str, tmp_path: Path
) -> None:
    with opened(write_dat(tmp_path / folder, *more, movies=movies)) as files:
        assert recognise(files) == layout


def test_a_csv_edition_is_recognised_by_its_header(tmp_path: Path) -> None:
    (tmp_path / "movies.csv").write_text("")
    for header, layout in (('"userId","movieId"', "csv"), ("userId", "csv"), ("user_id,movie_id", "canonical")):
        (tmp_path / "ratings.csv").write_text(header, encoding="utf-8-sig")
        with opened(tmp_path) as files:
            assert recognise(files) == layout


def test_an_unknown_folder_is_refused_with_the_expected_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with opened(tmp_path) as files, pytest.raises(SourceError, match=r"has no ratings .* u\.data, u\.item; .*Next: "):
        recognise(files)


def test_the_files_of_a_source_are_those_that_are_read(tmp_path: Path) -> None:
    for name in ("ratings.csv", "movies.parquet", "movies.csv", "tags.csv", "genome-tags.csv"):
        (tmp_path / name).write_text("")
    with opened(tmp_path) as files:
        assert file_names(files, LAYOUTS["canonical"]) == ["movies.parquet", "ratings.csv", "tags.csv"]
        assert file_names(files, LAYOUTS["csv"]) == ["movies.csv", "ratings.csv", "tags.csv"]
