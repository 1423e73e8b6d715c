"""The report of a batch: all its rows, for programs and for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dnnlib.cache import replacing
from draggan.batch.jobs import REPORT
from draggan.batch.worker import COLUMNS
from draggan.errors import ExportError

__all__ = ["write_report"]


def write_report(folder: Path, rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> tuple[Path, Path]:
    """Write ``report.json`` and ``report.csv``, whole or not at all.

    Args:
        rows: by the names in `COLUMNS`.
        facts: of the batch as a whole.

    Raises:
        ExportError: they cannot be written.
    """
    rows = sorted(rows, key=lambda row: row["number"])
    outcomes = Counter(row["outcome"] for row in rows if row.get("outcome"))
    whole = {
        "report": 1,
        **facts,
        "done": sum(row["state"] == "done" for row in rows),
        "failed": sum(row["state"] == "failed" for row in rows),
        "outcomes": dict(sorted(outcomes.items())),
        "rows": [dict(row) for row in rows],
    }
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_cell(row.get(name)) for name in COLUMNS] for row in rows)
    paths = folder / REPORT, folder / "report.csv"
    texts = json.dumps(whole, indent=1) + "\n", table.getvalue()
    try:
        for path, text in zip(paths, texts, strict=True):
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise ExportError(f"cannot write the report to {folder}: {error.strerror or error}") from error
    return paths


def _cell(value: Any) -> Any:
    """A value as a spreadsheet may have it: a text from outside that begins like a formula is none."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
