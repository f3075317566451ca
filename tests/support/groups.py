"""Which tests share a worker, which files are slow, and in which order groups start.

Every file is one group, so that its module fixtures are built once. A slow file whose tests share nothing expensive is
divided into several groups. The slowest files start first, so that no slow group delays the end of the suite. A test
run ends with a list of the slowest files, from which the table is updated. `pytest --fast` leaves these files out.
"""

import zlib
from pathlib import Path

TESTS = Path(__file__).parents[1]

# File below tests/, slowest first: number of groups.
SLOW_FILES = {
    "deployments/test_orchestration.py": 1,
    "deployments/test_deployments.py": 1,
    "deployments/test_tasks.py": 1,
    "deployments/test_restart.py": 1,
    "flows/test_nightly.py": 1,
    "test_bad_input.py": 2,
    "models/test_contract.py": 3,
    "train/test_loop.py": 2,
    "deployments/test_systemd.py": 1,
    "models/test_planted.py": 2,
    "flows/test_healing.py": 1,
    "warehouse/test_publish.py": 1,
    "checks/test_check.py": 2,
    "warehouse/test_audit.py": 2,
    "train/test_choose.py": 1,
    "test_bench_lists.py": 1,
    "train/test_warm_start.py": 1,
    "test_as_of.py": 1,
    "compare/test_compare.py": 1,
    "rank/test_ranker.py": 1,
    "ingest/test_drops.py": 1,
    "flows/test_operations.py": 1,
    "compare/test_tune.py": 1,
    "train/test_checkpoint.py": 1,
    "checks/test_reuse.py": 1,
    "ingest/test_snapshot.py": 1,
    "runs/test_resume.py": 1,
    "evaluate/test_champion.py": 1,
    "rank/test_ruled.py": 1,
    "checks/test_report.py": 1,
    "split/test_leaks.py": 2,
    "metrics/test_differences.py": 1,
    "deployments/test_hosting.py": 1,
    "docs/test_readme.py": 1,
    "warehouse/test_publish_processes.py": 1,
}
# Files that share a session fixture, and so a worker.
SHARED = {
    "deployments/test_deployments.py": "served",
    "deployments/test_orchestration.py": "served",
    "deployments/test_restart.py": "served",
    "deployments/test_tasks.py": "served",
    "ask/test_explain.py": "served_night",
    "ask/test_newcomer.py": "served_night",
    "flows/test_cli.py": "served_night",
    "flows/test_json.py": "served_night",
    "flows/test_show.py": "served_night",
    "test_bitrot.py": "served_night",
}
ORDER = {TESTS / name: position for position, name in enumerate(SLOW_FILES)}


def is_slow(path: Path) -> bool:
    return path in ORDER


def start_order(path: Path) -> int:
    """Sort key: slow files in the order of the table, then all others."""
    return ORDER.get(path, len(ORDER))


def group_of(nodeid: str) -> str:
    """The group of a test, by its node id, such as `tests/split/test_cut.py::test_time[random]`."""
    name = nodeid.partition("::")[0].removeprefix("tests/")
    parts = SLOW_FILES.get(name, 1)
    return SHARED.get(name, f"{name}:{zlib.crc32(nodeid.encode()) % parts}")
