"""Our own expectation class. This module imports Great Expectations, so import it only where it is used."""

from typing import Any, ClassVar

from great_expectations.expectations.core.unexpected_rows_expectation import UnexpectedRowsExpectation


class CountedRowsExpectation(UnexpectedRowsExpectation):
    """An UnexpectedRowsExpectation that only counts the rows. The base class fetches some of them first, then counts.

    Fetching would run the query a second time, which takes seconds over 20 million rows. The quarantine has the rows.
    """

    metric_dependencies: ClassVar[tuple[str, ...]] = ("unexpected_rows_query.row_count",)

    def _validate(
        self, metrics: dict[str, Any], runtime_configuration: Any = None, execution_engine: Any = None
    ) -> dict[str, Any]:
        n_rows = int(metrics["unexpected_rows_query.row_count"])
        return {"success": n_rows == 0, "result": {"observed_value": n_rows}}
