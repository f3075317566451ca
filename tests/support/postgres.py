"""A real PostgreSQL server on loopback for tests, from Debian's package."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.serving import find_free_port, wait_for

PASSWORD = "pg-secret-7c1f"
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
POSTGRES = PROGRAMS[-1] if PROGRAMS else None


@contextmanager
def postgres() -> Iterator[str]:
    """The URL, including the password, of an empty database. The server is stopped at the end of the block."""
    if POSTGRES is None:
        pytest.skip("no PostgreSQL in /usr/lib/postgresql. Next: install the package postgresql")
    as_postgres: tuple[str, ...] = ()
    with TemporaryDirectory(prefix="postgres-") as name:  # other users cannot enter the folder of the test
        folder = Path(name)
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(folder, "postgres", "postgres")
            as_postgres = ("setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups")
        data, secret, port = str(folder / "data"), folder / "password", find_free_port()
        secret.write_text(PASSWORD)
        init = (str(POSTGRES), "-D", data, "-U", "recsys", "--auth", "scram-sha-256", f"--pwfile={secret}", "--no-sync")
        subprocess.run([*as_postgres, *init], check=True, capture_output=True, cwd=folder)
        start = (str(POSTGRES.with_name("postgres")), "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", name, "-F")
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([*as_postgres, *start], cwd=folder, stdout=log, stderr=log)
        try:
            wait_for("PostgreSQL", (folder / f".s.PGSQL.{port}").exists, 30)
            yield f"postgresql+asyncpg://recsys:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()
            process.wait(30)
