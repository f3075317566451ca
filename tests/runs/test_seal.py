"""Files of a run that change on disk are noticed by the nights and commands that read them again."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from recsys.files import open_sealed, read_sealed, seal_json, write_json, write_sealed
from recsys.home import Home, Run
from recsys.runs.night import night
from recsys.runs.seal import find_damage, seal
from recsys.settings import Settings
from tests.support.flips import flip_bit, flipped


@pytest.fixture
def run(home: Home) -> Run:
    """A sealed run with two files."""
    run = home.run("20261121T030000Z")
    write_json(run.choice, {"model": "ordinal"})
    write_json(run.gate, {"broken": []})
    seal(run)
    return run


def test_intact_files_have_no_damage(run: Run) -> None:
    assert find_damage(run, run.folder) is None


def test_every_changed_bit_is_found(run: Run) -> None:
    for bit in range(8 * run.choice.stat().st_size):
        with flipped(run.choice, bit):
            assert find_damage(run, run.model) == (
                "run 20261121T030000Z is damaged: model/choice.json is not as it was written: it has another SHA-256"
            )
            assert find_damage(run, run.gate) is None


def test_a_missing_file_is_found(run: Run) -> None:
    run.gate.unlink()
    assert "gate.json cannot be read" in str(find_damage(run, run.gate))


def test_a_file_that_is_written_again_is_sealed_again(run: Run) -> None:
    write_json(run.gate, {"broken": ["worse"]})
    assert find_damage(run, run.gate)
    seal(run)
    assert find_damage(run, run.gate) is None


def test_sealing_again_does_not_hide_damage(run: Run) -> None:
    """Damage leaves size and time as they were, so the file is not hashed again."""
    state = run.gate.stat()
    flip_bit(run.gate, 20)
    os.utime(run.gate, ns=(state.st_atime_ns, state.st_mtime_ns))
    seal(run)
    assert find_damage(run, run.gate)


def test_a_run_of_an_older_version_is_not_checked(run: Run) -> None:
    run.digests.unlink()
    assert find_damage(run, run.folder) is None


def test_a_damaged_run_is_not_resumed(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(home=home.root, source="synthetic:60x40x2000")
    with pytest.raises(OSError, match="the disk"), night(settings) as failed:
        write_json(failed.choice, {"model": "ordinal"})
        raise OSError("the disk is gone")
    flip_bit(failed.choice, 40)
    with night(settings) as again:
        pass
    assert again.run_id != failed.run_id
    assert f"run {failed.run_id} is damaged: model/choice.json is not as it was written" in caplog.text
    assert "it is not resumed, and the night starts over" in caplog.text
    with pytest.raises(OSError, match="the disk"), night(settings) as failed:
        raise OSError("the disk is gone")
    with night(settings) as resumed:
        pass
    assert resumed.run_id == failed.run_id


def test_a_sealed_file_of_an_older_version_has_no_digest(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"7": "2026-11-21"})
    assert read_sealed(tmp_path / "a.json") == {"7": "2026-11-21"}
    write_sealed(tmp_path / "a.json", {"7": "2026-11-21"})
    flip_bit(tmp_path / "a.json", 8 * (tmp_path / "a.json").read_text().index("7"))
    with pytest.raises(ValueError, match="it is not as it was written"):
        read_sealed(tmp_path / "a.json")


def test_every_changed_bit_of_a_sealed_text_is_found_or_harmless() -> None:
    content = {"b": [1, 2.5, None], "a": {"é": "x"}, "files": {"a.parquet": "0123abc"}}
    text = seal_json(content).encode()
    assert open_sealed(text.decode()) == content
    for bit in range(8 * len(text)):
        changed = bytearray(text)
        changed[bit // 8] ^= 1 << bit % 8
        with suppress(ValueError):
            assert open_sealed(changed.decode()) == content
