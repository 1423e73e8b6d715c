"""Measured cases: what belongs together, in memory and in a file that later measurements extend."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dnnlib.cache import replacing
from draggan.config import DragConfig, solver_name
from draggan.errors import ConfigError, ExportError, PointError
from draggan.evaluation.protocols import DRAG, Case, Column, Method, Protocol, check
from draggan.evaluation.statistics import Interval, bootstrap, frechet, share
from draggan.evaluation.subject import Subject

__all__ = ["FORMAT", "Ending", "ResultFile", "Row", "changed", "measure"]

FORMAT = "draggan-evaluation-1"
"""What a file of results says it is."""

Ending = Literal["complete", "time", "interrupted"]


def changed(config: DragConfig) -> dict[str, Any]:
    """The settings that differ from the defaults."""
    fields = dataclasses.fields(config)
    return {f.name: getattr(config, f.name) for f in fields if getattr(config, f.name) != f.default}


class Row:
    """One protocol on one subject with one configuration, and the cases measured so far.

    Args:
        name: of the configuration, for tables.
        method: what drags.

    Raises:
        ConfigError: the protocol cannot be run on this subject.
    """

    def __init__(
        self, subject: Subject, protocol: Protocol, config: DragConfig, name: str = "", method: Method = DRAG
    ) -> None:
        check(protocol, subject)
        self.subject, self.protocol, self.config, self.name, self.method = subject, protocol, config, name, method
        self.cases: dict[int, Case] = {}

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal for cases to belong together: weights, protocol, method and settings; as JSON values."""
        subject = self.subject
        label = None if subject.label is None else int(subject.label.argmax())
        identity: dict[str, Any] = {
            "model": subject.name,
            "weights": subject.fingerprint,
            "truncation": subject.truncation,
            "class": label,
            "exact": subject.exact is not None,
            "landmark_network": subject.finder_fingerprint if self.protocol.finds else "",
            "protocol": self.protocol.name,
            "settings": self.protocol.settings(),
            "config": {} if self.protocol.name == "quality" else _values(self.protocol.limited(self.config)),
        }
        # Left out for the package's own drag, so that files from before there were other methods still match.
        if self.method.key and self.protocol.name != "quality":
            identity["method"] = self.method.key
        return json.loads(json.dumps(identity))

    def add(self, index: int) -> Case:
        """Measure that case unless it is there; a task whose points do not fit the picture becomes an empty case."""
        if index not in self.cases:
            try:
                case = self.protocol.case(self.subject, self.config, index, self.method)
            except PointError as e:
                case = Case(seed=self.protocol.first_seed + index, figures={}, outcome=str(e))
            self.cases[index] = case
        return self.cases[index]

    def values(self, key: str) -> dict[int, float]:
        """A figure of every case that has it."""
        found = ((i, case.figures.get(key)) for i, case in sorted(self.cases.items()))
        return {i: value for i, value in found if value is not None and math.isfinite(value)}

    def interval(self, column: Column) -> Interval:
        """Mean and confidence interval of a figure."""
        values = list(self.values(column.key).values())
        return share(values) if column.share else bootstrap(values, quantile=column.quantile)

    @property
    def main(self) -> Column:
        """The main figure: the protocol's, or the tracked distance where that could not be measured."""
        columns = {c.key: c for c in self.protocol.columns}
        key = self.protocol.main
        return columns[key if self.values(key) or "tracked" not in columns else "tracked"]

    def over(self, indices: Iterable[int]) -> Row:
        """The same row with these cases only."""
        part = Row(self.subject, self.protocol, self.config, self.name, self.method)
        part.cases = {i: self.cases[i] for i in sorted(indices)}
        return part

    @property
    def measured(self) -> int:
        """Cases that have figures."""
        return sum(bool(case.figures) for case in self.cases.values())

    def frechet(self, first: str, second: str) -> float | None:
        """Frechet distance between two of "before", "after" and "other" over all cases that have both."""
        cases = [c.features for _, c in sorted(self.cases.items()) if first in c.features and second in c.features]
        if len(cases) < 2:
            return None
        return frechet(np.stack([c[first] for c in cases]), np.stack([c[second] for c in cases]))

    def summary(self) -> dict[str, Any]:
        """Every column's mean and interval, and the Frechet distances, as JSON values (null: not measured)."""
        out: dict[str, Any] = {"cases": self.measured, "skipped": len(self.cases) - self.measured}
        for column in self.protocol.columns:
            i = self.interval(column)
            out[column.key] = {"mean": _plain(i.mean), "low": _plain(i.low), "high": _plain(i.high), "count": i.count}
        out["frechet"] = {"edited": self.frechet("before", "after"), "unrelated": self.frechet("before", "other")}
        return out

    def extreme(self) -> dict[str, int]:
        """Indices of the best, median and worst case by the main figure; fewer if there are fewer."""
        values = self.values(self.main.key)
        sign = -1 if self.main.more_is_better else 1
        order = sorted(values, key=lambda i: (sign * values[i], i))
        if len(order) < 3:
            return dict(zip(("best", "worst"), order, strict=False))
        return {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


class ResultFile:
    """Rows in a JSON file. Rows that others or earlier runs wrote there are kept.

    Args:
        path: need not exist yet.

    Raises:
        ConfigError: there is something else in that file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._rows = self._read()

    def _read(self) -> list[dict[str, Any]]:
        """The rows in the file, checked completely: a damaged file is refused before hours of work."""
        if not self.path.exists():
            return []
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']!r}")
            for row in content["rows"]:
                _same(row["row"], row["row"])
                for case in row["cases"].values():
                    _case(case)
            return content["rows"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise ConfigError(
                f"{self.path} cannot be read as results of `draggan evaluate` ({e}); choose another file"
            ) from e

    def load(self, row: Row) -> int:
        """Give a row the cases that the file has of it; returns how many."""
        for stored in self._rows:
            if _same(stored["row"], row.identity):
                found = {int(index): _case(case) for index, case in stored["cases"].items()}
                row.cases = found | row.cases
                row.name = row.name or stored.get("name", "")
                return len(found)
        return 0

    def save(self, *rows: Row) -> None:
        """Write these rows in place of what the file has of them.

        Raises:
            ExportError: the file cannot be written.
            ConfigError: something else has been written there meanwhile.
        """
        # Another process may have written other rows meanwhile.
        self._rows = self._read()
        for row in rows:
            identity = row.identity
            stored = {
                "name": row.name,
                "row": identity,
                "summary": row.summary(),
                "cases": {str(index): _stored(case) for index, case in sorted(row.cases.items())},
            }
            self._rows = [r for r in self._rows if not _same(r["row"], identity)] + [stored]
        try:
            with replacing(self.path) as temporary:
                temporary.write_text(
                    json.dumps({"format": FORMAT, "rows": self._rows}, indent=1) + "\n", encoding="utf-8"
                )
        except OSError as e:
            raise ExportError(f"cannot write {self.path}: {e.strerror or e}; choose a folder that is writable") from e


def _values(config: DragConfig) -> dict[str, Any]:
    return _that_matter(json.loads(json.dumps(dataclasses.asdict(config))))


def _that_matter(values: dict[str, Any]) -> dict[str, Any]:
    """Settings without those that only another solver has."""
    mine = (None, values["solver"])
    foreign = {f.name for f in dataclasses.fields(DragConfig) if f.metadata["only"] not in mine}
    return {name: value for name, value in values.items() if name == "solver" or name not in foreign}


def _same(stored: dict[str, Any], identity: dict[str, Any]) -> bool:
    """Whether two identities are the same. Settings that are newer than the first are at their defaults, and a solver
    may have had another name then."""
    config = stored["config"]
    if config:
        config = {**json.loads(json.dumps(dataclasses.asdict(DragConfig()))), **config}
        config = _that_matter(config | {"solver": solver_name(config["solver"])})
    return {**stored, "config": config} == identity


def _stored(case: Case) -> dict[str, Any]:
    figures = {key: None if value is None else float(f"{value:.6g}") for key, value in case.figures.items()}
    out: dict[str, Any] = {"seed": case.seed, "figures": figures, "outcome": case.outcome}
    if case.shift is not None:
        # Half precision: the picture of the result is the same to the eye, and the file half as long.
        out["shift"] = {"shape": list(case.shift.shape), "float16": _packed(case.shift, np.float16)}
    if case.features:
        out["features"] = {name: _packed(value, np.float32) for name, value in case.features.items()}
    return out


def _case(stored: dict[str, Any]) -> Case:
    shift = stored.get("shift")
    return Case(
        seed=int(stored["seed"]),
        figures={key: None if value is None else float(value) for key, value in stored["figures"].items()},
        outcome=str(stored["outcome"]),
        shift=None if shift is None else _unpacked(shift["float16"], np.float16).reshape(shift["shape"]),
        features={name: _unpacked(text, np.float32) for name, text in stored.get("features", {}).items()},
    )


def _packed(array: np.ndarray, dtype: type) -> str:
    return base64.b64encode(np.ascontiguousarray(array, np.dtype(dtype).newbyteorder("<")).tobytes()).decode()


def _unpacked(text: str, dtype: type) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), np.dtype(dtype).newbyteorder("<")).astype(np.float32)


def measure(
    rows: list[Row],
    count: int,
    *,
    file: ResultFile | None = None,
    seconds: float = math.inf,
    progress: Callable[[Row, int], None] = lambda row, done: None,
) -> Ending:
    """Measure the first ``count`` cases of every row, by turns, so that every row has the same cases at any time.

    Ctrl-C ends it; what was measured is kept, and saved.

    Args:
        file: written now and then and at the end.
        seconds: no case begins later than this.
        progress: called after every case with its row and how many of its cases are there.

    Returns:
        Why it ended.
    """
    begun = saved = time.monotonic()
    try:
        for index in range(count):
            for row in rows:
                limit = row.protocol.count()
                if index in row.cases or (limit is not None and index >= limit):
                    continue
                if time.monotonic() - begun > seconds:
                    return "time"
                row.add(index)
                progress(row, len(row.cases))
                if file is not None and time.monotonic() - saved > 20:
                    file.save(*rows)
                    saved = time.monotonic()
    except KeyboardInterrupt:
        return "interrupted"
    finally:
        if file is not None:
            file.save(*rows)
    return "complete"
