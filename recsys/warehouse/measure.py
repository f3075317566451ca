"""Measures the lists of a run as a whole and in comparison with the served lists. `audit` applies the limits."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from duckdb import DuckDBPyConnection

import sql
from recsys.files import exact
from recsys.warehouse.outcome import TONIGHT, MetricRow


def measure_lists(
    connection: DuckDBPyConnection, model: str, available: Path, rating_scale: Sequence[float]
) -> Iterator[MetricRow]:
    """Measures the table `recommendations` and compares it with the view `lists_before`. Omits undefined measures.

    available: Parquet file with the movie_id of each movie that may be shown. rating_scale: stars; empty if unknown.
    """
    n_available = connection.read_parquet(exact(available)).aggregate("count(distinct movie_id)").fetchall()[0][0]
    known = {
        "n_available": n_available,
        "lowest": min(rating_scale, default=None),
        "highest": max(rating_scale, default=None),
    }
    found = connection.execute(sql.read("measure_lists"), known)
    names = [column[0] for column in found.description]
    (values,) = found.fetchall()
    for name, value in zip(names, values, strict=True):
        if value is not None:
            yield MetricRow(model, TONIGHT, "all", name, value)
