"""Writes a validator's results to one self-contained HTML page: no scripts, nothing fetched from a network."""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path

from recsys.files import replacing

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; width: 100% }}
td, th {{ padding: .3rem .6rem; text-align: left; border-bottom: 1px solid #ddd; vertical-align: top }}
.number {{ text-align: right; font-variant-numeric: tabular-nums }}
.pass {{ color: #17692b }}
.fail {{ color: #a3161a; font-weight: bold }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{n_passed} of {n_rules} rules hold. {explanation}</p>
<table>
<thead><tr><th>Status</th><th>Rows</th><th>Rule</th><th>Demand</th><th class="number">Found</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</body>
</html>
"""


@dataclass(frozen=True)
class Row:
    """The result of one rule in one view."""

    passed: bool
    view: str
    rule: str
    demands: str
    found: float


def write_page(folder: Path, title: str, explanation: str, rows: Iterable[Row]) -> None:
    """Writes index.html to `folder`, failed rules first. title: plain text; explanation: HTML of one paragraph."""
    ordered = sorted(rows, key=lambda row: row.passed)
    page = PAGE.format(
        title=escape(title),
        explanation=explanation,
        n_passed=sum(row.passed for row in ordered),
        n_rules=len(ordered),
        rows="\n".join(map(_write_row, ordered)),
    )
    with replacing(folder / "index.html") as aside:
        aside.write_text(page, encoding="utf-8")


def _write_row(row: Row) -> str:
    status = '<td class="pass">✓ pass</td>' if row.passed else '<td class="fail">✗ fail</td>'
    words = "".join(f"<td>{escape(text)}</td>" for text in (row.view, row.rule, row.demands))
    found = f"{row.found:,}" if row.found == int(row.found) else f"{row.found:.6g}"
    return f'<tr>{status}{words}<td class="number">{found}</td></tr>'
