"""A few changed bits in each kind of file; `python -m tests.bitrot` changes 600."""

import shutil
from pathlib import Path

from recsys.home import Home
from tests.bitrot import KINDS, complete, flip_bits, list_targets

FLIPS = {"parquet": 60, "duckdb": 4, "safetensors": 30, "json": 60, "zip": 10}  # a bit in duckdb takes a second


def test_no_changed_bit_is_read_without_notice(served_night: Home, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    shutil.copytree(served_night.root, home.root, ignore=shutil.ignore_patterns("archives"))
    targets = list_targets(complete(home))
    found = {kind: flip_bits(targets[kind], FLIPS[kind], seed=0) for kind in KINDS}
    assert {kind: outcomes["silent"] for kind, outcomes in found.items()} == dict.fromkeys(KINDS, 0)
    noticed = {kind: outcomes["detected"] + outcomes["no champion"] for kind, outcomes in found.items()}
    assert all(noticed.values()), found
    assert found["safetensors"]["no champion"] > 0
