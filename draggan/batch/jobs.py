"""What there is to do: the lines of a file, or the files of a folder, each a recipe.

A line is a recipe in its exact form, one in short form (`draggan.engine.short_form`), or ``{"name": NAME, "recipe":
RECIPE}``; a short form may have a name as well. A folder has recipes as JSON, pictures and films that carry theirs, and
sessions as browsers keep them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from draggan.engine.base import Engine
from draggan.engine.short_form import recipe_from
from draggan.errors import DragGANError, RecipeError
from draggan.export import ANIMATIONS, PICTURES, read_recipe
from draggan.kept_session import read_session
from draggan.recipe import MOST_CHARACTERS, Recipe, parse_json

__all__ = ["REPORT", "Job", "read_job", "read_jobs"]

REPORT = "report.json"
"""What a batch writes about itself into the folder of its pictures; a folder of recipes may be one of those."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
# Names that Windows keeps for devices, whatever follows the dot.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_MOST_BYTES = 256 << 20  # of one file of a folder
_SUFFIXES = (".json", *PICTURES, *ANIMATIONS)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One recipe, by where it stands.

    Attributes:
        number: of the line, or of the file in the sorted folder, from 1 on.
        name: what its files are called.
        key: SHA-256 of what is asked for; a job of the same name and key is the same job.
        model: that it needs, as the recipe calls it; empty where that is not known.
        path: the file it stands in.
        offset, length: of the line in it, bytes; a length of -1 is the whole file.
        error: why it cannot be run, if that can be seen from here.
    """

    number: int
    name: str
    key: str
    model: str = ""
    path: str
    offset: int = 0
    length: int = -1
    error: str = ""

    @property
    def place(self) -> str:
        """Where it stands, for people."""
        return Path(self.path).name if self.length < 0 else f"line {self.number}"


def read_jobs(source: Path, options: str = "") -> list[Job]:
    """The jobs of a file of lines, or of a folder.

    A line that cannot be used is a job with an error: it costs nothing but itself.

    Args:
        options: what else the results depend on; part of every key.

    Raises:
        RecipeError: there is no such file or folder, or nothing in it.
    """
    try:
        found = list(_of_folder(source) if source.is_dir() else _of_lines(source))
    except OSError as error:
        raise RecipeError(f"cannot read {source}: {error.strerror or error}") from error
    if not found:
        raise RecipeError(f"there are no recipes in {source}; give a file with one on every line, or a folder of them")
    named: dict[str, int] = {}
    jobs = []
    for job in found:
        first = named.setdefault(job.name.lower(), job.number)
        if first != job.number:
            # Under a name that no line can have by itself, so that nothing of the first is written over.
            why = job.error or f"the name '{job.name}' belongs to {first} already; give every recipe one of its own"
            job = replace(job, name=f"{job.number:06d}-again", error=why)
        jobs.append(replace(job, key=hashlib.sha256(f"{job.key} {options}".encode()).hexdigest()))
    return jobs


def read_job(job: Job, engine: Engine) -> Recipe:
    """The recipe of a job.

    Raises:
        DragGANError: it cannot be read; see `Recipe.from_json`.
    """
    path = Path(job.path)
    if job.error:
        raise RecipeError(job.error)
    if job.length < 0:
        found = _in_file(path)
        return found if isinstance(found, Recipe) else recipe_from(found, engine)
    with path.open("rb") as file:
        file.seek(job.offset)
        return recipe_from(_without_name(parse_json(file.read(job.length))), engine)


def _in_file(path: Path) -> Any:
    """The recipe in a file of a folder, or the JSON value that means one."""
    if path.suffix.lower() != ".json":
        return read_recipe(path)
    text = path.read_bytes()
    value = parse_json(text)
    if isinstance(value, dict) and "outline" in value:
        return read_session(text.decode("utf-8-sig")).recipe
    return _without_name(value)


def _of_lines(path: Path) -> Iterator[Job]:
    if not path.is_file():
        raise RecipeError(f"there is no file or folder {path}; give a file with one recipe on every line, or a folder")
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MOST_CHARACTERS + 1):
            number += 1
            offset = file.tell() - len(line)
            too_long = len(line) > MOST_CHARACTERS
            while too_long and not line.endswith(b"\n") and line:
                line = file.readline(MOST_CHARACTERS)
            if too_long:
                yield _unusable(path, number, f"the line has more than {MOST_CHARACTERS} bytes")
            elif line.strip():
                yield _of_line(path, number, offset, line)


def _of_line(path: Path, number: int, offset: int, line: bytes) -> Job:
    try:
        value = parse_json(line)
        name = _name_in(value) or f"{number:06d}"
    except DragGANError as error:
        return _unusable(path, number, str(error))
    text = json.dumps(_without_name(value), sort_keys=True, separators=(",", ":"))
    key = hashlib.sha256(text.encode()).hexdigest()
    model = _model_in(value)
    return Job(number=number, name=name, key=key, model=model, path=str(path), offset=offset, length=len(line))


def _unusable(path: Path, number: int, error: str) -> Job:
    return Job(number=number, name=f"{number:06d}", key="", path=str(path), length=0, error=error)


def _of_folder(folder: Path) -> Iterator[Job]:
    number, known = 0, set()
    for path in sorted(filter(_may_have_recipe, folder.iterdir()), key=_order):
        found, error = _read(path)
        if isinstance(found, Recipe):
            # The film beside a picture, and the picture beside its recipe, are the same work.
            work = path.stem.lower(), found.digest
            if work in known:
                continue
            known.add(work)
        number += 1
        yield Job(
            number=number,
            name=path.stem if _is_good(path.stem) else f"{number:06d}",
            key="" if error else hashlib.sha256(path.read_bytes()).hexdigest(),
            model=found.model.name if isinstance(found, Recipe) else _model_in(found),
            path=str(path),
            error=error,
        )


def _may_have_recipe(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and path.name != REPORT and path.is_file()


def _order(path: Path) -> tuple[str, int, str]:
    """By name, and of one name what says most first: a JPEG or a film has no latents."""
    return path.stem, _SUFFIXES.index(path.suffix.lower()), path.name


def _read(path: Path) -> tuple[Any, str]:
    """What is in a file of a folder, as `_in_file`, and why it cannot be used."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise RecipeError(f"{path.name} is too large for a recipe; at most {_MOST_BYTES >> 20} MB are read")
        return _in_file(path), ""
    except DragGANError as error:
        return None, str(error)


def _model_in(value: Any) -> str:
    """The name of the model in a line, or in a recipe that was not read yet."""
    value = _without_name(value)
    model = value.get("model") if isinstance(value, dict) else None
    model = model.get("name") if isinstance(model, dict) else model
    return model if isinstance(model, str) else ""


def _name_in(value: Any) -> str:
    name = value.get("name") if isinstance(value, dict) else None
    if name is None:
        return ""
    if not isinstance(name, str) or not _is_good(name):
        raise RecipeError(
            f"the name {name!r:.120} cannot be that of a file; give letters, digits, '-', '_' and '.', at most 100"
        )
    return name


def _is_good(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and not _DEVICES.fullmatch(name) and not name.endswith(".")


def _without_name(value: Any) -> Any:
    """What remains of a line without its name."""
    if not isinstance(value, dict):
        return value
    value = {key: part for key, part in value.items() if key != "name"}
    return value["recipe"] if set(value) == {"recipe"} and isinstance(value["recipe"], dict) else value
