"""Files of a source that are not read. A file that looks like a table of the source stops the night."""

import difflib
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from recsys.errors import DataRefused
from recsys.home import Home
from recsys.ingest.parse.layouts import DROPS

# A name that ends like a file of data, perhaps compressed.
DATA = re.compile(
    r"\.(csv|tsv|dat|data|parquet|pq|json|jsonl|ndjson|avro|orc|xlsx?)(\.(gz|bz2|xz|zst|zip|lz4|snappy))?$",
    re.IGNORECASE,
)
WORD = re.compile(r"[a-z]+")
SIMILARITY = 0.82  # of a word to the name of a table: ratngs and rating have 0.92, tag 0.86, lines 0.80, dating 0.77
SHOWN = 5  # names in a message


def looks_like_table(name: str) -> bool:
    """Whether a file or folder may hold rows of a table: its name has a table's name, or nearly, and ends like data."""
    words = WORD.findall(DATA.sub("", name).lower())
    return DATA.search(name) is not None and any(
        difflib.get_close_matches(word, DROPS, n=1, cutoff=SIMILARITY) for word in words
    )


def check_unread(
    source: Path, unread: Iterable[str], read: Iterable[str], rule: str, harmless: Collection[str]
) -> str | None:
    """Checks the names beside the files that are read; returns a notice about those that are left out, if any.

    `rule` says which names are read. `harmless` are tables that sources of this kind have and that are not used.

    Raises: DataRefused if a name looks like a table, because its rows would be missing silently.
    """
    names = sorted(unread)
    if similar := [name for name in names if name not in harmless and looks_like_table(name)]:
        raise DataRefused(
            f"{source} has {_shorten(similar)}, which would not be read beside {_shorten(sorted(read))}: {rule}. Next: "
            "rename it as a file that is read, or move it out of the folder"
        )
    return f"not used: {_shorten(names)}" if names else None


def list_beside(folder: Path, read: Iterable[str]) -> list[str]:
    """Files in `folder` that are not in `read`, and folders in it, with a file that looks like a table if there is one.

    Hidden files and folders are left out, and so is a home of ours, whose tables are outputs.
    """
    taken = {name.partition("/")[0] for name in read}
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    beside = [path for path in visible if path.name not in taken and not Home(path).runs.is_dir()]
    return [f"{path.name}/{_first_table(path)}" if path.is_dir() else path.name for path in beside]


def _first_table(folder: Path) -> str:
    """The first file in a folder that looks like a table by its own or the folder's name; empty if there is none."""
    paths = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    named = looks_like_table(f"{folder.name}.csv")
    return next((str(path) for path in paths if looks_like_table(path.name) or (named and DATA.search(path.name))), "")


def _shorten(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
