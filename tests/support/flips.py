"""Changes single bits of files, as disks and memory do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def flip_bit(path: Path, bit: int) -> None:
    """Changes one bit of the file in place, counted from its start."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


@contextmanager
def flipped(path: Path, bit: int) -> Iterator[None]:
    """The bit is changed in the block. Afterwards, the file has its content again, even if the block replaced it."""
    whole = path.read_bytes()
    flip_bit(path, bit)
    try:
        yield
    finally:
        path.write_bytes(whole)
