from pathlib import Path

import pytest

from recsys.errors import SourceError
from recsys.ingest.archives.archives import opened
from recsys.ingest.parse import lines
from recsys.ingest.parse.lines import LINES, read_lines
from recsys.ingest.parse.texts import Text

PLAIN = Text("a.txt", "\t", ("user_id",))
COMMAS = Text("a.txt", ",", ("user_id", "tag"))
HEADED = Text("a.txt", ",", ("user_id",), header=("userId",))


def numbered(folder: Path, content: bytes, text: Text = PLAIN) -> list[tuple[int, bytes]]:
    (folder / text.name).write_bytes(content)
    with opened(folder) as files:
        return list(read_lines(files, text))


def in_arrow(folder: Path, content: bytes, text: Text = PLAIN, encoding: str = "utf-8") -> list[tuple[object, ...]]:
    """Source line, line, fields and problem of each line."""
    (folder / text.name).write_bytes(content)
    with opened(folder) as files:
        tables = list(read_lines(files, text, encoding).tables())
    assert all(table.schema == LINES for table in tables)
    return [tuple(row.values()) for table in tables for row in table.to_pylist()]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_the_last_line_counts_with_and_without_a_line_end(end: bytes, tmp_path: Path) -> None:
    assert numbered(tmp_path, b"one\r\ntwo" + end) == [(1, b"one"), (2, b"two")]


def test_a_header_is_the_first_line(tmp_path: Path) -> None:
    assert numbered(tmp_path, b"\xef\xbb\xbfuserId\r\n7\r\n", HEADED) == [(2, b"7")]


def test_empty_lines_count_and_an_empty_file_has_none(tmp_path: Path) -> None:
    assert numbered(tmp_path, b"\n\na\n") == [(1, b""), (2, b""), (3, b"a")]
    assert numbered(tmp_path, b"") == []
    assert in_arrow(tmp_path, b"") == []


@pytest.mark.parametrize("block_bytes", [5, 6, 7, 8, 64, 2**24])
def test_lines_do_not_depend_on_blocks(block_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", block_bytes)
    written = [str(number) * (number % 5) for number in range(1, 10)] + ["ten"]
    content = "\n".join(written).encode()
    assert numbered(tmp_path, content) == [(number, line.encode()) for number, line in enumerate(written, start=1)]
    in_order = [(number, f"{line}\n", None, None) for number, line in enumerate(written, start=1)]
    assert in_arrow(tmp_path, content) == in_order


def test_invalid_bytes_are_escaped_and_have_a_problem(tmp_path: Path) -> None:
    assert in_arrow(tmp_path, b"1\tcaf\xe9\x00\r\n2\t\xc3\xa9\n") == [
        (1, "1\tcaf\\xe9\0\r\n", None, "byte 6 is not UTF-8"),
        (2, "2\té\n", None, None),
    ]


def test_latin_1_reaches_arrow_in_utf8(tmp_path: Path) -> None:
    assert in_arrow(tmp_path, b"1\tcaf\xe9\n", encoding="latin-1") == [(1, "1\tcafé\n", None, None)]


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ('1,"quirky, odd"', ["1", "quirky, odd"]),
        ('1,"""artsy"""', ["1", '"artsy"']),
        ('"1","2"', ["1", "2"]),
        ('1,9" nails', ["1", '9" nails']),
        ('1,""', ["1", ""]),
        ('1,"a', None),
        ('1,"a"b', None),
        (f'1,"{"a" * 200_000}"', None),  # longer than a field that Python's csv reads
    ],
)
@pytest.mark.parametrize("neighbour", ['2,"b"', '2,"b'])
def test_quotes_are_read_line_by_line(line: str, fields: list[str] | None, neighbour: str, tmp_path: Path) -> None:
    """A line is read the same whether the neighbouring quoted line is complete or not."""
    rows = in_arrow(tmp_path, f"{line}\n{neighbour}\nplain,line\n".encode(), COMMAS)
    assert rows[0][2] == fields
    assert (rows[0][3] is None) == (fields is not None)
    assert rows[1][2] == (["2", "b"] if neighbour.endswith('b"') else None)
    assert rows[2][2:] == (None, None)


def test_the_field_with_separators_is_between_the_others(tmp_path: Path) -> None:
    text = Text("a.txt", "::", ("user_id", "tag", "tagged_at"), rest="tag")
    rows = in_arrow(tmp_path, b"1::a::b:::3\n1::a\n1:::::3\n\n", text)
    assert [fields for _, _, fields, _ in rows] == [["1", "a::b:", "3"], ["1", "a"], ["1", ":", "3"], [""]]


def test_a_file_without_line_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", 64)
    with pytest.raises(SourceError, match=r"a\.txt in .* has a line longer than 64 bytes"):
        numbered(tmp_path, b"1" * 1000)
