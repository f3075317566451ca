"""Run commands in separate processes to measure their seconds and memory."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Measured:
    """Measurements of one command."""

    output: dict[str, Any]
    log: str
    seconds: float
    cpu_seconds: float  # of all threads; more reliable than `seconds` on a busy machine
    peak_mib: float


def measure_process(command: Sequence[object], env: Mapping[str, str] | None = None) -> Measured:
    """Run a command that prints one JSON object. If it fails, stop with its log."""
    with tempfile.TemporaryFile() as log, tempfile.TemporaryFile() as output:
        start = time.monotonic()
        process = subprocess.Popen([str(part) for part in command], stdout=output, stderr=log, env=env)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        log.seek(0)
        text = log.read().decode()
        process.returncode = os.waitstatus_to_exitcode(status)  # otherwise `process` is considered running
        if process.returncode != 0:
            raise SystemExit(text)
        output.seek(0)
        cpu_seconds = usage.ru_utime + usage.ru_stime
        return Measured(json.load(output), text, seconds, cpu_seconds, usage.ru_maxrss / 1024)
