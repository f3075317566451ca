"""A real PostgreSQL server on loopback, of Debian's package, for as long as a test wants it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from serving import find_free_port, wait_for

PASSWORD = "pg-secret-7c1f"


@contextmanager
def postgres() -> Iterator[str]:
    """The URL, with its password, of an empty database; it is gone when the block is left."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not programs:
        pytest.skip("no PostgreSQL below /usr/lib/postgresql; Debian's package is called postgresql")
    initdb = programs[-1]
    as_other: tuple[str, ...] = ()
    with TemporaryDirectory(prefix="postgres-") as name:  # the test's own folder is closed to other users
        data = Path(name)
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(data, "postgres", "postgres")
            as_other = ("setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups")
        secret = ["-c", 'exec "$0" "$@" --pwfile=<(echo "$PGPASSWORD")']
        initdb_of = [
            *as_other,
            "bash",
            *secret,
            str(initdb),
            "-D",
            str(data / "db"),
            "-U",
            "recsys",
            "-A",
            "scram-sha-256",
            "-N",
        ]
        subprocess.run(initdb_of, check=True, capture_output=True, cwd=data, env=os.environ | {"PGPASSWORD": PASSWORD})
        port = find_free_port()
        command = [
            *as_other, str(initdb.with_name("postgres")), "-D", str(data / "db"), "-p", str(port),
            "-h", "127.0.0.1", "-k", name, "-F",
        ]  # fmt: skip
        with (data / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=data, stdout=log, stderr=log)
        try:
            wait_for("PostgreSQL", (data / f".s.PGSQL.{port}").exists, 30)
            yield f"postgresql+asyncpg://recsys:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()
            process.wait(30)
