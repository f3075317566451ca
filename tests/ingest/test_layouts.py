import pytest

from recsys.ingest.layouts import atomic_title, published_title, whole


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
def test_title_and_year_are_parted(published: str, title: str, year: int | None) -> None:
    assert published_title({"title": published}) == (title, year)


@pytest.mark.parametrize(
    ("title", "year", "expected"),
    [
        ("Toy Story", "1995", ("Toy Story", 1995)),
        ("unkonwn", "unkonwn", ("unknown", None)),
        ("Land Before Time III (1995)", "V", ("Land Before Time III (V)", 1995)),
    ],
)
def test_the_wheel_is_read_as_what_was_published(title: str, year: str, expected: tuple[str, int | None]) -> None:
    assert atomic_title({"title": title, "year": year}) == expected


@pytest.mark.parametrize(("text", "value"), [("7", 7), (" 7 ", 7), ("7.0", 7), ("0", 0), ("", None), ("  ", None)])
def test_whole_numbers(text: str, value: int | None) -> None:
    assert whole(text, 7) == value


@pytest.mark.parametrize("text", ["8", "-1", "1.5", "1_0", "٣", "x", "1e0"])
def test_what_is_no_whole_number_in_range(text: str) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        whole(text, 7)
