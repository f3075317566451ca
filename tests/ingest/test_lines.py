from pathlib import Path

import pytest

from recsys.errors import SourceError
from recsys.ingest import lines
from recsys.ingest.archives import opened
from recsys.ingest.lines import Text, read_lines

PLAIN = Text("a.txt", "\t", ("user_id",))
HEADED = Text("a.txt", ",", ("user_id",), header=("userId",))


def numbered(folder: Path, content: bytes, text: Text = PLAIN) -> list[tuple[int, bytes]]:
    (folder / text.name).write_bytes(content)
    with opened(folder) as files:
        return list(read_lines(files, text))


def in_arrow(folder: Path, content: bytes) -> list[tuple[int, str]]:
    (folder / PLAIN.name).write_bytes(content)
    with opened(folder) as files:
        tables = list(read_lines(files, PLAIN).tables())
    return [(row["source_line"], row["line"]) for table in tables for row in table.to_pylist()]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_last_line_counts_however_it_ends(end: bytes, tmp_path: Path) -> None:
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
    assert in_arrow(tmp_path, content) == [(number, f"{line}\n") for number, line in enumerate(written, start=1)]


def test_other_bytes_reach_arrow_written_out(tmp_path: Path) -> None:
    assert in_arrow(tmp_path, b"1\t\xe9\x00\n") == [(1, "1\t\\xe9\0\n")]


def test_a_file_without_line_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", 64)
    with pytest.raises(SourceError, match=r"a\.txt in .* holds a line longer than 64 bytes"):
        numbered(tmp_path, b"1" * 1000)
