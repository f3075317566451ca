"""Measures lists that are about to be published, as a whole and beside those that are served; judging is `audit`'s."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from duckdb import DuckDBPyConnection

import sql
from recsys.warehouse.outcome import TONIGHT, MetricRow


def measure_lists(
    connection: DuckDBPyConnection, model: str, available: Path, rating_scale: Sequence[float]
) -> Iterator[MetricRow]:
    """The figures of the table `recommendations` beside the view `lists_before`; what cannot be told is left out.

    available: Parquet file with a movie_id in each row, of movies that may be shown. rating_scale: stars; perhaps none,
    where it is not known.
    """
    n_available = connection.read_parquet(str(available)).aggregate("count(distinct movie_id)").fetchall()[0][0]
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
