"""Names the kind of a file by its first bytes. Only error messages use it; reading a file does not depend on it."""

from pathlib import Path

FIRST_BYTES = 512

SIGNATURES = (
    (b"PK\x03\x04", "a zip, perhaps cut short or damaged"),
    (b"\x1f\x8b", "a gzip file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"PAR1", "a Parquet file"),
    (b"version https://git-lfs", "a Git LFS pointer instead of the file"),
    (b"\xff\xfe", "text in UTF-16"),
    (b"\xfe\xff", "text in UTF-16"),
)
TAR_AT, TAR = 257, b"ustar"
HTML = (b"<!doctype html", b"<html", b"<head", b"<body")


def looks_like(first: bytes) -> str:
    """Describes a file by its first FIRST_BYTES bytes, e.g. "a gzip file"."""
    if not first:
        return "an empty file"
    if first.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(HTML):
        return "an HTML page"
    if first[TAR_AT:].startswith(TAR):
        return "a tar archive"
    is_text = not any(byte < 32 and byte not in b"\t\n\r\f" for byte in first)
    named = (name for signature, name in SIGNATURES if first.startswith(signature))
    return next(named, "text" if is_text else "an unknown kind of file")


def file_looks_like(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return looks_like(file.read(FIRST_BYTES))
    except OSError as error:
        return f"an unreadable file: {error.strerror}"


def shown(text: str, max_length: int = 200) -> str:
    """Shortens and escapes a text of unknown origin, so that it is safe to print on a terminal."""
    cut = text if len(text) <= max_length else f"{text[: max_length - 1]}…"
    return cut if cut and cut.isprintable() else ascii(cut)
