"""An expectation class of our own. It imports Great Expectations, so import this module only where it is used."""

from typing import Any, ClassVar

from great_expectations.expectations.core.unexpected_rows_expectation import UnexpectedRowsExpectation


class CountedRowsExpectation(UnexpectedRowsExpectation):
    """UnexpectedRowsExpectation that only counts the rows, instead of fetching some of them first and then counting.

    A rule over 20 million rows takes seconds, and the quarantine has the rows.
    """

    metric_dependencies: ClassVar[tuple[str, ...]] = ("unexpected_rows_query.row_count",)

    def _validate(
        self, metrics: dict[str, Any], runtime_configuration: Any = None, execution_engine: Any = None
    ) -> dict[str, Any]:
        n_rows = int(metrics["unexpected_rows_query.row_count"])
        return {"success": n_rows == 0, "result": {"observed_value": n_rows}}
