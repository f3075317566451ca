"""A real PostgreSQL server on loopback, of Debian's package, for as long as a test wants it."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PASSWORD = "pg-secret-7c1f"


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """The URL, with its password, of an empty database below `folder`, which any user must be able to enter."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not programs:
        pytest.skip("no PostgreSQL below /usr/lib/postgresql; Debian's package is called postgresql")
    initdb = programs[-1]
    data, secret = folder / "data", folder / "password"
    data.mkdir(mode=0o700)
    secret.write_text(PASSWORD)
    as_other: tuple[str, ...] = ()
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(data, "postgres", "postgres")
        as_other = ("setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    subprocess.run(
        [*as_other, initdb, "-D", data, "-U", "recsys", "--auth", "scram-sha-256", "--pwfile", secret, "--no-sync"],
        check=True,
        capture_output=True,
        cwd=data,
    )
    command = [
        *as_other, initdb.with_name("postgres"), "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", data,
        "-c", "fsync=off",
    ]  # fmt: skip
    with (folder / "postgres.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=data, stdout=log, stderr=log)
    try:
        yield f"postgresql+asyncpg://recsys:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait(30)
