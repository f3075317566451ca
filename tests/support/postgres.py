"""A real PostgreSQL server on loopback, from Debian's package."""

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


@contextmanager
def postgres() -> Iterator[str]:
    """Yields the URL, with the password, of an empty database that is removed at the end of the block."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not programs:
        pytest.skip("no PostgreSQL below /usr/lib/postgresql; Debian's package is called postgresql")
    initdb = programs[-1]
    as_other: tuple[str, ...] = ()
    with TemporaryDirectory(prefix="postgres-") as name:  # other users cannot read the test's own folder
        folder = Path(name)
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(folder, "postgres", "postgres")
            as_other = ("setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups")
        data, secret, port = str(folder / "data"), folder / "password", find_free_port()
        secret.write_text(PASSWORD)
        init = (str(initdb), "-D", data, "-U", "recsys", "--auth", "scram-sha-256", f"--pwfile={secret}", "--no-sync")
        subprocess.run([*as_other, *init], check=True, capture_output=True, cwd=folder)
        start = (str(initdb.with_name("postgres")), "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", name, "-F")
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([*as_other, *start], cwd=folder, stdout=log, stderr=log)
        try:
            wait_for("PostgreSQL", (folder / f".s.PGSQL.{port}").exists, 30)
            yield f"postgresql+asyncpg://recsys:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()
            process.wait(30)
