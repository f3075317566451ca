"""The version of the running code."""

import hashlib
import subprocess
from pathlib import Path

from recsys import __version__


def code_version() -> str:
    """The package's version. A git checkout adds its commit (`0.1.0+g5677af9`), and `-dirty` if files were changed."""
    folder = Path(__file__).parents[1]
    if not (folder / ".git").exists():
        return __version__
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # git is missing, or this is not our checkout
        return __version__
    return f"{__version__}+g{described.stdout.strip()}"


def code_hash() -> str:
    """Hash of all code that a night runs, including uncommitted changes. 12 hexadecimal digits."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for layer in ("flows", "recsys", "sql"):
        for path in sorted(path for path in (root / layer).rglob("*") if path.suffix in {".py", ".sql"}):
            digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]
