"""How a picture comes to be, as a value: the model, the start, and the edits in order.

A `Recipe` is plain data with an exact JSON form and a hash. The page's session holds recipes, ``draggan drag --recipe``
runs one, a saved PNG carries one, an engine turns one into a picture (`draggan.engine`). This module is also the only
reader of points and settings that come from outside, whoever sends them; masks that are pictures are read by
`draggan.images.read_mask`.

*Pictures are numbered*: 0 is the start, k the picture after the k-th edit. A point names the picture that its handle
was clicked in, a mask the one that it was painted on: a continued drag looks for what was there.

The JSON form, version 1; everything but ``recipe``, ``model``, ``size`` and ``start`` may be left out::

    {"recipe": 1,
     "model": {"name": "cat", "sha256": "...", "tuning": "..."},
     "size": [height, width],
     "start": {"seed": 7, "truncation": 0.7, "class": null},      or {"latent": LATENT}
     "edits": [{"points": [{"handle": [x, y], "target": [x, y], "origin": [x, y], "picture": 0}],
                "mask": {"runs": [...], "picture": 0},
                "space": "w+",
                "settings": {"max_steps": 100},
                "recorded": LATENT, "by hand": true}],
     "results": [LATENT, null]}

LATENT is ``{"shape": [1, num_ws, w_dim], "float32": BASE64}``, little-endian; or ``"deflated"`` in place of
``"float32"``, the same bytes compressed by zlib. ``runs`` are the lengths of the stretches of a mask read row by row,
alternately False and True, the first of them False. ``recorded`` is where an edit has ended that cannot be computed
again: a pull by hand or, with ``"by hand": false``, a drag that somebody has stopped. ``tuning`` stands there where a
photo is drawn: the weights that were changed for it, by their hash, which are no part of a recipe (`draggan.tuning`).
``results`` are latents of the numbered pictures as far as they are known and not in the recipe anyway: they spare work,
and neither equality nor the hash looks at them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float

from draggan.config import DragConfig, Space, check_seed, check_space, check_truncation, read_setting
from draggan.errors import ConfigError, DragGANError, LatentError, MaskError, PointError, RecipeError
from draggan.points import check_mask, check_points

__all__ = [
    "Edit",
    "Mask",
    "ModelReference",
    "Point",
    "Recipe",
    "Seed",
    "Xy",
    "by_hand_value",
    "check_latent",
    "latent_value",
    "parse_json",
    "points_value",
    "read_by_hand",
    "read_edit",
    "read_latent",
    "read_list",
    "read_numbers",
    "read_object",
    "read_point",
    "read_points",
    "read_runs",
    "read_settings",
    "runs_of",
    "values_in",
]

Xy: TypeAlias = tuple[float, float]

VERSION = 1
# What a recipe may be made of, far above anything that makes sense, so that hostile text uses up no memory.
MOST_CHARACTERS = 32 << 20
MOST_VALUES = 1 << 21  # numbers, texts, lists and objects in them: each takes up to 64 bytes of memory
MOST_EDITS = 500
MOST_POINTS = 500
MOST_MASK_PIXELS = 1 << 28  # of all masks together
MOST_SIDE = 8192
MOST_LATENT = 1 << 20  # numbers in one latent code
MOST_NAME = 4096  # letters of a model's
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class ModelReference:
    """The model that draws.

    Attributes:
        name: a registry name, a path or an https address.
        sha256: of its file, 64 hexadecimal digits; empty: not known. With it, a recipe runs on no other weights.
        tuning: hash of what was changed in the weights to draw a photo (`draggan.tuning.Tuning.digest`), likewise;
            empty: nothing, the picture is the model's own. Whatever is made of a photo has one.

    Raises:
        RecipeError: not a name, or not a hash.
    """

    name: str
    sha256: str = ""
    tuning: str = ""

    def __post_init__(self) -> None:
        name = self.name
        if not isinstance(name, str) or not 0 < len(name) <= MOST_NAME or not name.isprintable():
            raise RecipeError(f"{name!r:.80} is not the name of a model; give a name, a path or an https address")
        if self.sha256 != "" and not (isinstance(self.sha256, str) and _SHA256.fullmatch(self.sha256)):
            raise RecipeError(f"{self.sha256!r:.80} is not a SHA-256; give 64 hexadecimal digits, or leave it out")
        if self.tuning != "" and not (isinstance(self.tuning, str) and _SHA256.fullmatch(self.tuning)):
            raise RecipeError(f"{self.tuning!r:.80} is not the hash of a tuning; give 64 hexadecimal digits")


@dataclass(frozen=True, kw_only=True)
class Seed:
    """A start from noise: ``numpy.random.RandomState(seed)``.

    Attributes:
        seed: 0 to 2**32 - 1.
        truncation: psi, 0 to 1.5; 0 is the average picture, 1 leaves it as it is.
        label: the class, where the model has classes.

    Raises:
        LatentError, ConfigError: a value outside its range.
    """

    seed: int
    truncation: float = 1.0
    label: int | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.label is not None and (not _is_whole(self.label) or not 0 <= self.label < 1 << 20):
            raise ConfigError(f"class {self.label!r:.80} is not allowed; give a whole number from 0 on")
        object.__setattr__(self, "truncation", check_truncation(self.truncation))


@dataclass(frozen=True, kw_only=True)
class Point:
    """A handle and its target.

    Attributes:
        handle: where the handle is when the edit begins.
        target: where the content is to go.
        origin: where the handle was clicked; None: where it is now.
        picture: number of the picture it was clicked in; None: the one that the edit begins with.
    """

    handle: Xy
    target: Xy
    origin: Xy | None = None
    picture: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Mask:
    """What may change.

    Attributes:
        allowed: ``[height, width]``, True = may change.
        picture: number of the picture that it was painted on, whose fixed region is kept; None: the one that the edit
            begins with.
    """

    allowed: Bool[np.ndarray, "height width"]
    picture: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "allowed", _read_only(self.allowed))


@dataclass(frozen=True, kw_only=True, eq=False)
class Edit:
    """One drag, or one pull by hand.

    Attributes:
        points: handles and targets; of a pull where it began and ended, if anything.
        mask: None: everything may change.
        space: "w+" or "w".
        settings: of `DragConfig`, by name, without the space; those left out are what suits the model.
        recorded: ``[1, num_ws, w_dim]``, where it ended, of what cannot be computed again: a pull by hand, a drag that
            somebody has stopped, a picture on the way of either; None: a drag that ends by itself.
        by_hand: whether it was pulled; then it is recorded.

    Raises:
        ConfigError: a setting that does not exist, or outside its range.
        LatentError: ``recorded`` is not one latent code.
        RecipeError: pulled by hand to nobody knows where.
    """

    points: tuple[Point, ...] = ()
    mask: Mask | None = None
    space: Space = "w+"
    settings: Mapping[str, Any] = field(default_factory=dict)
    recorded: Float[np.ndarray, "1 num_ws w_dim"] | None = None
    by_hand: bool = False
    # Where in which recipes it was found to be in order: they are made anew with every edit.
    _checked: tuple[int, tuple[int, int]] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", tuple(self.points))
        object.__setattr__(self, "settings", read_settings(self.settings, self.space))
        if self.recorded is not None:
            object.__setattr__(self, "recorded", check_latent(self.recorded))
        elif self.by_hand:
            raise RecipeError("an edit by hand cannot be computed again; give with it where it ended, in 'recorded'")

    def config(self, suited: Mapping[str, Any] | None = None) -> DragConfig:
        """The settings of the drag, all of them.

        Args:
            suited: what suits the model; the edit's own settings go before it.
        """
        return DragConfig(**{**(suited or {}), **self.settings, "space": self.space})


@dataclass(frozen=True, kw_only=True, eq=False)
class Recipe:
    """How a picture comes to be. Compares and hashes by what it says, not by the results it carries.

    Attributes:
        model: what draws.
        image_size: of its pictures, ``(height, width)`` pixels.
        start: a seed, or a latent code ``[1, num_ws, w_dim]``.
        edits: in order.
        results: latents of the numbered pictures, one more than there are edits; None: not computed yet.

    Raises:
        RecipeError: sizes, numbers of pictures or of edits that cannot be.
        PointError, MaskError, LatentError: points, masks or latents that do not fit.
    """

    model: ModelReference
    image_size: tuple[int, int]
    start: Seed | Float[np.ndarray, "1 num_ws w_dim"]
    edits: tuple[Edit, ...] = ()
    results: tuple[Float[np.ndarray, "1 num_ws w_dim"] | None, ...] = ()

    def __post_init__(self) -> None:
        size = self.image_size
        good = isinstance(size, (tuple, list)) and len(size) == 2 and all(_is_whole(n) for n in size)
        if not good or not all(1 <= n <= MOST_SIDE for n in size):
            raise RecipeError(
                f"a picture size of {size!r:.80} is not allowed; give [height, width], 1 to {MOST_SIDE} pixels each"
            )
        object.__setattr__(self, "image_size", tuple(int(n) for n in size))
        if len(self.edits) > MOST_EDITS:
            raise RecipeError(f"{len(self.edits)} edits are too many for one recipe; give at most {MOST_EDITS}")
        if not isinstance(self.start, Seed):
            object.__setattr__(self, "start", check_latent(self.start))
        edits = tuple(_placed(edit, number, self.image_size) for number, edit in enumerate(self.edits))
        object.__setattr__(self, "edits", edits)
        if self.results and len(self.results) != len(edits) + 1:
            raise RecipeError(
                f"{len(self.results)} results were given for {len(edits)} edits; give one more than there are edits, "
                "or none"
            )
        given = self.results or (None,) * (len(edits) + 1)
        # What is part of the recipe itself goes before what travels beside it.
        results = tuple(
            mine if mine is not None else None if other is None else check_latent(other)
            for mine, other in zip(self._own_latents, given, strict=True)
        )
        shapes = {result.shape for result in results if result is not None}
        if len(shapes) > 1:
            raise LatentError(f"the latent codes of one recipe have different shapes: {sorted(map(list, shapes))}")
        object.__setattr__(self, "results", results)

    # Reading it

    @property
    def seed(self) -> Seed | None:
        """Where it begins with a seed."""
        return self.start if isinstance(self.start, Seed) else None

    @property
    def latent(self) -> Float[np.ndarray, "1 num_ws w_dim"] | None:
        """Of the picture that it makes; None: not computed yet."""
        return self.results[-1]

    @property
    def is_of_photo(self) -> bool:
        """Whether it draws a photo, or what was made of one."""
        return self.model.tuning != ""

    @property
    def allowed(self) -> Bool[np.ndarray, "height width"] | None:
        """What its edits together may have changed; None: everything, as one of them had no mask, or there is none."""
        masks = [edit.mask for edit in self.edits]
        if not masks or None in masks:
            return None
        return np.logical_or.reduce([mask.allowed for mask in masks if mask is not None])

    @property
    def is_complete(self) -> bool:
        """Whether the latents of all its pictures are known."""
        return all(result is not None for result in self.results)

    # Making others of it

    def then(self, edit: Edit, result: np.ndarray | None = None) -> Recipe:
        """The recipe with one more edit, and the latent that it led to, if that is known."""
        return replace(self, edits=(*self.edits, edit), results=(*self.results, result))

    def up_to(self, picture: int) -> Recipe:
        """The recipe of an earlier picture, by its number."""
        if not 0 <= picture <= len(self.edits):
            raise RecipeError(f"there is no picture {picture}; this recipe has the pictures 0 to {len(self.edits)}")
        return replace(self, edits=self.edits[:picture], results=self.results[: picture + 1])

    def with_results(self, results: Sequence[np.ndarray | None]) -> Recipe:
        """The same recipe with what was computed; an empty sequence takes all results away."""
        return replace(self, results=tuple(results))

    def portable(self) -> Recipe:
        """For others: of a model's path only the file's name, since folders say where somebody keeps what, and of an
        address nothing behind a question mark, where sites have their keys."""
        name = self.model.name
        name = re.split(r"[?#]", name)[0] if name.startswith("https://") else re.split(r"[/\\]", name)[-1] or "model"
        return self if name == self.model.name else replace(self, model=replace(self.model, name=name))

    # Its exact form

    def to_json(self, *, results: bool = True, indent: int | None = None) -> str:
        """The recipe as text; `from_json` gives an equal one back.

        Args:
            results: with the latents that are known.
        """
        values = self._values()
        if results:
            # Those that the recipe itself holds stand in it already.
            values["results"] = [
                None if result is None or own is not None else latent_value(result)
                for own, result in zip(self._own_latents, self.results, strict=True)
            ]
        return json.dumps(values, indent=indent, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Recipe:
        """Read what `to_json` has written, or what a person or another program wrote in that form.

        Raises:
            RecipeError: not such a text, of another version, or with something unknown in it.
            PointError, MaskError, LatentError, ConfigError: a part of it cannot be used.
        """
        return _read(parse_json(text))

    @classmethod
    def from_values(cls, values: Any) -> Recipe:
        """The same of JSON that was parsed already, by `parse_json`."""
        return _read(values)

    @property
    def digest(self) -> str:
        """SHA-256 of what the recipe says, 64 hexadecimal digits, the same on every machine.

        Where the weights are known by their hash, what they are called does not count.
        """
        values = self._values()
        if self.model.sha256:
            del values["model"]["name"]
        text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Recipe) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def _own_latents(self) -> tuple[Float[np.ndarray, "1 num_ws w_dim"] | None, ...]:
        """Of every picture the latent that the recipe itself says; None: it has to be computed."""
        return (None if isinstance(self.start, Seed) else self.start, *(edit.recorded for edit in self.edits))

    def _values(self) -> dict[str, Any]:
        """Everything but the results, as JSON has it."""
        start: dict[str, Any] = (
            {
                "seed": int(self.start.seed),
                "truncation": self.start.truncation,
                "class": None if self.start.label is None else int(self.start.label),
            }
            if isinstance(self.start, Seed)
            else {"latent": latent_value(self.start)}
        )
        # Where there is none, the text is that of programs that knew of none.
        tuned = {"tuning": self.model.tuning} if self.model.tuning else {}
        return {
            "recipe": VERSION,
            "model": {"name": self.model.name, "sha256": self.model.sha256 or None} | tuned,
            "size": list(self.image_size),
            "start": start,
            "edits": [_edit_value(edit) for edit in self.edits],
        }


# ---- what comes from outside ---------------------------------------------------------------------------------------


def read_points(values: Any, image_size: tuple[int, int], picture: int | None = None) -> tuple[Point, ...]:
    """Points as anybody may send them.

    Args:
        values: a list of ``[handle x, handle y, target x, target y]``, of ``[[x, y], [x, y]]``, or of objects as in a
            recipe.
        picture: number of the picture that the edit begins with, where it is known; none may name a later one.

    Raises:
        PointError: anything else, too many, or outside the picture.
    """
    if not isinstance(values, (list, tuple)):
        raise PointError(
            f"{_kind(values)} cannot be read as points; give [[handle x, handle y, target x, target y], ...]"
        )
    if len(values) > MOST_POINTS:
        raise PointError(f"{len(values)} points are too many; give at most {MOST_POINTS}")
    return _on_the_picture([_read_pair(value, i, picture) for i, value in enumerate(values, 1)], image_size)


def read_point(name: str, value: Any, image_size: tuple[int, int]) -> Xy:
    """One point ``[x, y]`` as anybody may send it; ``name`` is what a message calls it.

    Raises:
        PointError: not two finite numbers, or outside the picture.
    """
    ((x, y),) = check_points(name, [_numbers(name, value)], image_size).tolist()
    return x, y


def read_settings(settings: Any, space: Any = "w+") -> dict[str, Any]:
    """Settings of a drag by name, checked; whole numbers and fractions as the setting has them.

    Raises:
        ConfigError: a name that does not exist, or a value outside its range.
    """
    if not isinstance(settings, Mapping) or not all(isinstance(name, str) for name in settings):
        raise ConfigError("settings are given by name, such as {'max_steps': 100}")
    values = {name: read_setting(name, _plain(value)) for name, value in settings.items()}
    config = DragConfig(**values, space=check_space(space))
    return {name: getattr(config, name) for name in sorted(values)}


def check_latent(ws: Any) -> Float[np.ndarray, "1 num_ws w_dim"]:
    """A latent code as an array of float32 that nobody can write to.

    Raises:
        LatentError: it is not one picture's, or not finite.
    """
    try:
        with np.errstate(over="ignore"):
            array = np.asarray(ws, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise LatentError(f"{_kind(ws)} is not a latent code; give numbers of shape [1, num_ws, w_dim]") from error
    if array.ndim != 3 or array.shape[0] != 1 or 0 in array.shape or array.size > MOST_LATENT:
        raise LatentError(f"a latent code of shape {list(array.shape)} is not one picture; give [1, num_ws, w_dim]")
    if not np.isfinite(array).all():
        raise LatentError("the latent code has values that are not finite numbers; start from another picture")
    return _read_only(array)


# ---- JSON ----------------------------------------------------------------------------------------------------------


def parse_json(text: str | bytes, most: int | None = None) -> Any:
    """JSON from outside: bounded, without names that appear twice and without NaN and infinities.

    Args:
        most: characters that may be read; None: as many as a recipe may have.

    Raises:
        RecipeError: no such text.
    """
    most = MOST_CHARACTERS if most is None else most
    if len(text) > most:
        raise RecipeError(f"{len(text)} characters are too many for a recipe; at most {most} are read")
    try:
        if isinstance(text, (bytes, bytearray)):
            text = bytes(text).decode("utf-8-sig")
        if values_in(text) > MOST_VALUES:
            raise RecipeError(f"a text of more than {MOST_VALUES} values is too much for a recipe")
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_without_twice)
    # UnicodeDecodeError and JSONDecodeError are ValueErrors, as is a number of too many digits.
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"this is not a recipe: {_one_line(error)}; give the JSON text of one") from error


def values_in(text: str) -> int:
    """As how many values a JSON text counts: about as many as are in it."""
    return sum(map(text.count, ",[{"))


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number that a recipe may have")


def _without_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name appears twice in one object")
    return values


def _read(values: Any) -> Recipe:
    values = read_object("a recipe", values, needed=("recipe", "model", "size", "start"), known=("edits", "results"))
    version = values["recipe"]
    if not _is_whole(version) or version != VERSION:
        raise RecipeError(
            f"a recipe of version {version!r:.40} cannot be read; this program knows version {VERSION}. "
            "A newer program may have written it"
        )
    model = read_object("the model", values["model"], needed=("name",), known=("sha256", "tuning"))
    size = values["size"]
    if not isinstance(size, list):
        raise RecipeError(f"a picture size of {_kind(size)} is not allowed; give [height, width]")
    start = read_object("the start", values["start"], needed=(), known=("seed", "truncation", "class", "latent"))
    if ("seed" in start) == ("latent" in start) or ("latent" in start and len(start) > 1):
        raise RecipeError("the start of a recipe is either a seed, with truncation and class, or a latent code")
    begun = Recipe(
        model=ModelReference(
            name=model["name"],
            sha256="" if model.get("sha256") is None else model["sha256"],
            tuning="" if model.get("tuning") is None else model["tuning"],
        ),
        image_size=(*size,),  # type: ignore[arg-type]  # its length is checked there
        start=read_latent(start["latent"])
        if "latent" in start
        else Seed(seed=start["seed"], truncation=start.get("truncation", 1.0), label=start.get("class")),
    )
    listed = read_list("the edits", values.get("edits", []), MOST_EDITS)
    masks = 0
    edits = []
    for number, value in enumerate(listed):
        try:
            edits.append(read_edit(value, number, begun.image_size))
        except DragGANError as error:
            raise type(error)(f"edit {number + 1}: {error}") from error
        mask = edits[-1].mask
        masks += 0 if mask is None else mask.allowed.size
        if masks > MOST_MASK_PIXELS:
            raise MaskError(f"the masks of this recipe have more than {MOST_MASK_PIXELS} pixels together; split it up")
    results = read_list("the results", values.get("results", []), MOST_EDITS + 1)
    return replace(
        begun,
        edits=tuple(edits),
        results=tuple(None if result is None else read_latent(result) for result in results),
    )


def read_edit(value: Any, number: int, image_size: tuple[int, int]) -> Edit:
    """An edit in the JSON form of a recipe.

    Args:
        number: of the picture that it begins with.
    """
    value = read_object(
        "an edit", value, needed=(), known=("points", "mask", "space", "settings", "recorded", "by hand")
    )
    mask = value.get("mask")
    recorded = value.get("recorded")
    return Edit(
        points=read_points(value.get("points", []), image_size, number),
        mask=None if mask is None else read_runs(mask, number, image_size),
        space=value.get("space", "w+"),
        settings=read_settings(value.get("settings", {}), value.get("space", "w+")),
        recorded=None if recorded is None else read_latent(recorded),
        by_hand=read_by_hand(value),
    )


def read_by_hand(value: Mapping[str, Any]) -> bool:
    """Whether an edit in its JSON form was pulled: what is recorded was, where nothing is said (`by_hand_value`)."""
    by_hand = value.get("by hand", value.get("recorded") is not None)
    if not isinstance(by_hand, bool):
        raise RecipeError(f"'by hand' of an edit is true or false, not {_kind(by_hand)}")
    return by_hand


def _read_pair(value: Any, i: int, newest: int | None) -> Point:
    origin, picture = None, None
    if isinstance(value, dict):
        if not {"handle", "target"} <= set(value) <= {"handle", "target", "origin", "picture"}:
            raise PointError(f'{value!r:.80} is not a point; one looks like {{"handle": [x, y], "target": [x, y]}}')
        ends = (value["handle"], value["target"])
        if value.get("origin") is not None:
            origin = _numbers(f"origin {i}", value["origin"])
        if value.get("picture") is not None:
            picture = _picture(f"point {i}", value["picture"], newest)
    elif isinstance(value, (list, tuple)) and len(value) == 4:
        ends = (value[:2], value[2:])
    elif isinstance(value, (list, tuple)) and len(value) == 2:
        ends = (value[0], value[1])
    else:
        raise PointError(f"{value!r:.80} is not 4 numbers; a point is [handle x, handle y, target x, target y]")
    handle, target = _numbers(f"handle {i}", ends[0]), _numbers(f"target {i}", ends[1])
    return Point(handle=handle, target=target, origin=origin, picture=picture)


def _picture(what: str, number: Any, newest: int | None) -> int:
    if not _is_whole(number) or number < 0 or (newest is not None and number > newest):
        there = "" if newest is None else f"; give a number from 0 to {newest}"
        raise RecipeError(f"{what} belongs to picture {number!r:.40}, which does not come before it{there}")
    return int(number)


def read_runs(value: Any, number: int, image_size: tuple[int, int]) -> Mask:
    """A mask in the JSON form of a recipe.

    Args:
        number: of the picture that is there; a mask cannot have been painted on a later one.

    Raises:
        MaskError, RecipeError: anything else.
    """
    value = read_object("the mask", value, needed=("runs",), known=("picture",), error=MaskError)
    runs = value["runs"]
    pixels = image_size[0] * image_size[1]
    if not isinstance(runs, list) or len(runs) > pixels + 1 or not all(_is_whole(n) and 0 <= n <= pixels for n in runs):
        raise MaskError("the runs of a mask are a list of whole numbers, at most one more than there are pixels")
    if sum(runs) != pixels:
        raise MaskError(
            f"the runs of the mask cover {sum(runs)} pixels; the picture has {pixels}, "
            f"{image_size[1]} x {image_size[0]}"
        )
    allowed = np.repeat(np.arange(len(runs)) % 2 == 1, np.array(runs, np.int64)).reshape(image_size)
    picture = number if value.get("picture") is None else _picture("the mask", value["picture"], number)
    return Mask(allowed=allowed, picture=picture)


def read_latent(value: Any, most: int = MOST_LATENT) -> Float[np.ndarray, "1 num_ws w_dim"]:
    """A latent code in the JSON form of a recipe.

    Args:
        most: numbers that it may have.

    Raises:
        LatentError: anything else.
    """
    value = read_object("a latent code", value, needed=("shape",), known=("float32", "deflated"), error=LatentError)
    shape, text = value["shape"], value.get("float32", value.get("deflated"))
    good = isinstance(shape, list) and len(shape) == 3 and all(_is_whole(n) and 0 < n <= MOST_LATENT for n in shape)
    if not good or not isinstance(text, str) or math.prod(shape) > min(most, MOST_LATENT) or len(value) != 2:
        raise LatentError('a latent code looks like {"shape": [1, num_ws, w_dim], "float32": "base64"}')
    bytes_needed = 4 * math.prod(shape)
    try:
        data = base64.b64decode(text, validate=True)
        if "deflated" in value:
            # One byte more than there may be, which is found below: a short text may be made to grow without end.
            data = zlib.decompressobj().decompress(data, bytes_needed + 1)
    except (binascii.Error, ValueError) as error:
        raise LatentError(f"the numbers of a latent code are not base64 ({_one_line(error)})") from error
    except zlib.error as error:
        raise LatentError(f"the numbers of a latent code cannot be decompressed ({_one_line(error)})") from error
    if len(data) != bytes_needed:
        given = f"more than {bytes_needed}" if "deflated" in value and len(data) > bytes_needed else len(data)
        raise LatentError(f"a latent code of shape {shape} has {bytes_needed} bytes; {given} were given")
    return check_latent(np.frombuffer(data, "<f4").reshape(shape))


def read_object(
    what: str, value: Any, *, needed: Iterable[str], known: Iterable[str], error: type[DragGANError] = RecipeError
) -> dict[str, Any]:
    """An object with these names and no others; `error` says what is wrong with anything else."""
    needed, known = tuple(needed), tuple(known)
    if not isinstance(value, dict):
        raise error(f"{what} is given as an object with {', '.join((*needed, *known))}, not as {_kind(value)}")
    for name in value:
        if name not in needed and name not in known:
            raise error(f"{what} has no '{name:.80}'; it has {', '.join((*needed, *known))}")
    for name in needed:
        if name not in value:
            raise error(f"{what} needs '{name}', which is missing")
    return value


def read_list(what: str, value: Any, most: int) -> list[Any]:
    """A list of so many things at most; `RecipeError` otherwise."""
    if not isinstance(value, list) or len(value) > most:
        raise RecipeError(f"{what} are given as a list of at most {most}, not as {_kind(value)}")
    return value


def read_numbers(what: str, value: Any, count: int) -> frozenset[int]:
    """Some of the numbers from 0 on of so many things; `PointError` otherwise."""
    numbers: list[Any] = value if isinstance(value, list) else []
    good = isinstance(value, list) and len(numbers) <= count
    if not good or not all(_is_whole(number) and 0 <= number < count for number in numbers):
        raise PointError(f"{what} are given by their numbers, from 0 to {count - 1}, not as {value!r:.80}")
    return frozenset(map(int, numbers))


def _edit_value(edit: Edit) -> dict[str, Any]:
    return {
        "points": points_value(edit.points),
        "mask": None if edit.mask is None else {"runs": runs_of(edit.mask.allowed), "picture": edit.mask.picture},
        "space": edit.space,
        "settings": dict(sorted(edit.settings.items())),
        "recorded": None if edit.recorded is None else latent_value(edit.recorded),
        **by_hand_value(edit),
    }


def by_hand_value(edit: Edit) -> dict[str, bool]:
    """How the JSON form says whether an edit was pulled; `read_by_hand` reads it."""
    return {} if edit.recorded is None or edit.by_hand else {"by hand": False}


def points_value(points: Sequence[Point]) -> list[dict[str, Any]]:
    """The JSON form of points; `read_points` reads it."""
    return [
        {
            "handle": list(point.handle),
            "target": list(point.target),
            "origin": list(point.origin or point.handle),
            "picture": point.picture,
        }
        for point in points
    ]


def runs_of(mask: Bool[np.ndarray, "height width"]) -> list[int]:
    """Lengths of the stretches, the first of them of False, perhaps 0."""
    flat = mask.ravel()
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    return [0, *runs] if flat[0] else runs


def latent_value(ws: np.ndarray, *, deflated: bool = False) -> dict[str, Any]:
    """The JSON form of a latent code, exact to the bit.

    Args:
        deflated: compressed. The rows of a seed's latent are all alike, and those that a drag may not move stay so.
    """
    data = np.ascontiguousarray(ws, "<f4").tobytes()
    text = base64.b64encode(zlib.compress(data, 1) if deflated else data).decode("ascii")
    return {"shape": list(ws.shape), "deflated" if deflated else "float32": text}


# ---- small things --------------------------------------------------------------------------------------------------


def _placed(edit: Edit, number: int, image_size: tuple[int, int]) -> Edit:
    """The edit with everything filled in that follows from its place, and checked against the picture."""
    if edit._checked == (number, image_size):
        return edit
    if len(edit.points) > MOST_POINTS:
        raise PointError(f"{len(edit.points)} points are too many; give at most {MOST_POINTS}")
    points = [
        replace(
            point,
            origin=point.handle if point.origin is None else point.origin,
            picture=number if point.picture is None else _picture(f"point {i}", point.picture, number),
        )
        for i, point in enumerate(_on_the_picture(edit.points, image_size), 1)
    ]
    mask = edit.mask
    if mask is not None:
        check_mask(mask.allowed, image_size)
        mask = replace(mask, picture=number if mask.picture is None else _picture("the mask", mask.picture, number))
    edit = replace(edit, points=tuple(points), mask=mask)
    object.__setattr__(edit, "_checked", (number, image_size))
    return edit


def _on_the_picture(points: Sequence[Point], image_size: tuple[int, int]) -> tuple[Point, ...]:
    """The points with exact floats; `PointError` for the first that is outside."""
    handles = check_points("handle", [point.handle for point in points], image_size).tolist()
    targets = check_points("target", [point.target for point in points], image_size).tolist()
    given = [point.origin for point in points if point.origin is not None]
    origins = iter(check_points("origin", given, image_size).tolist())
    return tuple(
        replace(
            point,
            handle=tuple(handle),
            target=tuple(target),
            origin=None if point.origin is None else tuple(next(origins)),
        )
        for point, handle, target in zip(points, handles, targets, strict=True)
    )


def _numbers(name: str, values: Any) -> Xy:
    if not isinstance(values, (list, tuple)) or len(values) != 2 or not all(map(_is_number, values)):
        raise PointError(f"{name}, {values!r:.80}, is not 2 numbers; points are given in image pixels")
    return float(values[0]), float(values[1])


def _is_number(value: Any) -> bool:
    """Whether it is a finite number that fits a float."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """A number of numpy's as one of Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _kind(value: Any) -> str:
    """What a message calls a value of the wrong kind."""
    if value is None:
        return "nothing"
    names = {dict: "an object", list: "a list", tuple: "a list", str: "text", bool: "a truth value"}
    return names.get(type(value)) or ("a number" if isinstance(value, (int, float)) else f"a {type(value).__name__}")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _read_only(array: np.ndarray) -> np.ndarray:
    """The array if nobody can write to it, else a copy of that kind: recipes and sessions share it."""
    array = np.asarray(array)
    if not array.flags.writeable and array.base is None:
        return array
    array = array.copy()
    array.setflags(write=False)
    return array
