"""Fetches ML-100K from a package index: three files inside a wheel. The wheel is not installed."""

import logging
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from recsys.errors import SourceError
from recsys.files import hash_file, replacing
from recsys.ingest.archives.archives import opened

log = logging.getLogger(__name__)

DATASET = "ml-100k"
REQUIREMENT = "recbole==1.2.1"
ORIGIN = "the copy in the recbole 1.2.1 wheel"
WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"

MEMBERS = ("ml-100k.inter", "ml-100k.item", "ml-100k.user")
FILE = "ml-100k-recbole-1.2.1.zip"  # in the cache; GroupLens's own archive is preferred
FILE_SHA256 = "f374a10e7292e2bb9714b22bad55c520ff6b40b8250e20931c651e47110072a2"

PIP_RETRIES = ("--retries", "1", "--timeout", "15")  # seconds; by default pip waits minutes for an absent index


def is_intact(path: Path) -> bool:
    return path.exists() and hash_file(path) == FILE_SHA256


def fetch_copy(path: Path) -> None:
    """Downloads the wheel and writes its three files of ML-100K to a small zip at `path`.

    Raises: SourceError if pip cannot download the wheel.
    """
    log.info("fetching %s, which contains a copy of ML-100K", REQUIREMENT)
    with tempfile.TemporaryDirectory() as folder:
        wheel = download_wheel(Path(folder))
        with replacing(path) as aside:
            write_copy(wheel, aside)


def download_wheel(folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{REQUIREMENT} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input")
    pip = (sys.executable, "-m", "pip", "download", *quiet, *PIP_RETRIES)
    exact = ("--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(requirements), "--dest", str(folder))
    done = subprocess.run([*pip, *exact], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        last_line = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SourceError(f"pip cannot download {REQUIREMENT} ({last_line})")
    return wheels[0]


def write_copy(wheel: Path, path: Path) -> None:
    """Writes an uncompressed zip without dates, so that its bytes do not depend on the compressor of this Python."""
    with opened(wheel) as files, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as copy:
        for name in MEMBERS:
            copy.writestr(zipfile.ZipInfo(f"{DATASET}/{name}"), files.open(name).read())
