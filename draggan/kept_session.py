"""A session as text that a browser keeps and gives back, in pieces: after a step only those that are new travel.

`pieces_of` takes a session apart, `read_session` puts it together again. Pieces are named by their content, so that
what did not change keeps its name, and moments of the history share what they have in common. The text, version 1::

    {"outline": {"session": 1, "space": "w+", "settings": {}, "opened": [[TITLE, NAME]], "revision": 3,
                 "past": [NAME, ...], "now": NAME, "future": [NAME, ...], "branches": [NAME, ...]},
     "pieces": {NAME: PIECE, ...}}

In the outline, "arrived" names the points with which there is nothing left to drag, by their numbers; without it, none.

What a piece is follows from where it is named:

    a moment    {"start": PICTURE, "picture": PICTURE, "points": [...], "pending": [x, y], "frames": [LATENT, ...],
                 "mask": {"mask": MASK, "picture": 0}}, with points that are switched off "off": [NUMBER, ...], and
                 "seen": NUMBER, if a page has shown it
    a picture   {"recipe": a recipe without edits, "result": LATENT}, or {"before": PICTURE, "edit": EDIT,
                 "result": LATENT}
    an edit     as in a recipe, with names in place of its mask and its latent code
    a latent    as in a recipe, compressed
    a mask      {"runs": [...]}

Points, settings, masks, latents and starts are read by the recipe's own readers. What browsers keep is limited: the
newest moments go first, then what lies between the ends of drags.
"""

from __future__ import annotations

import base64
import hashlib
import json
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from draggan.errors import LatentError, MaskError, RecipeError
from draggan.recipe import (
    MOST_EDITS,
    MOST_VALUES,
    Edit,
    Mask,
    ModelReference,
    Point,
    Recipe,
    Xy,
    by_hand_value,
    latent_value,
    parse_json,
    points_value,
    read_by_hand,
    read_edit,
    read_latent,
    read_list,
    read_numbers,
    read_object,
    read_point,
    read_points,
    read_runs,
    read_settings,
    runs_of,
    values_in,
)
from draggan.session import MOST_MOMENTS, Moment, Session

__all__ = ["BUDGET", "SessionPieces", "pieces_of", "read_session"]

VERSION = 1
BUDGET = 5 << 20
"""Characters of all pieces of a session. A browser's database holds far more; a request to a public page does not."""

_MOST_CHARACTERS = 2 * BUDGET  # with names and the outline
_MOST_NUMBERS = 1 << 25  # in all latent codes of a session together, uncompressed
_MOST_PIXELS = 1 << 26  # in all its masks
_MOST_FRAMES = 1000  # of one moment
_MOST_NAMED = 10 * MOST_MOMENTS  # moments of which the nearest are read: there was a time when more were written
_MOST_OPENED = 1000
_LONGEST_NAME = 4096
_ROOM_FOR_OPENED = BUDGET // 4  # characters of all opened models
_MOST_WORK = 1 << 31  # numbers in the results of all its recipes, counted as often as they are named


@dataclass(frozen=True, kw_only=True)
class SessionPieces:
    """A session taken apart.

    Attributes:
        outline: the JSON text that names the pieces of the history.
        pieces: JSON texts by name, without those that were there already.
        names: of all pieces that belong to it.
    """

    outline: str
    pieces: Mapping[str, str]
    names: tuple[str, ...]

    def text(self) -> str:
        """Outline and pieces as `read_session` takes them."""
        pieces = ",".join(f'"{name}":{text}' for name, text in self.pieces.items())
        return f'{{"outline":{self.outline},"pieces":{{{pieces}}}}}'


def pieces_of(session: Session, *, there: Collection[str] = (), budget: int = BUDGET) -> SessionPieces:
    """Take a session apart.

    Args:
        there: names of pieces that whoever keeps them has already.
        budget: characters of all pieces; the oldest moments are left out. What is on the screen is kept in any case,
            if need be without the way that led there, or without its mask. Whatever is written can be read: both
            sides count alike.
    """
    store = _Store(frozenset(there), budget)
    if not store.admit(session.now):
        # A picture and its points alone always fit.
        store = _Store(frozenset(there), max(budget, BUDGET))
        session = replace(session, now=session.now.begun_anew(), past=(), future=(), branches=())
        if not store.admit(session.now):
            session = replace(session, now=replace(session.now, mask=None))
            store.admit(session.now)
    past, future = _nearest(store, session)
    branches = [moment for moment in reversed(session.branches) if store.admit(moment)][::-1]
    moments = [session.now, *past, *future, *branches]
    with_frames = {id(moment) for moment in moments if store.admit_frames(moment)}
    named = {id(m): store.moment(m, frames=id(m) in with_frames) for m in moments}
    outline = {
        "session": VERSION,
        "space": session.space,
        "settings": dict(session.settings),
        "opened": _fitting(session.opened),
        "revision": session.revision,
        "past": [named[id(moment)] for moment in reversed(past)],
        "now": named[id(session.now)],
        "future": [named[id(moment)] for moment in reversed(future)],
        "branches": [named[id(moment)] for moment in branches],
        "arrived": [number for number, pair in enumerate(session.pairs) if _ends(pair) in session.arrived],
    }
    return SessionPieces(outline=_dumps(outline), pieces=store.texts(), names=store.names)


def read_session(text: str, *, found: Callable[[ModelReference], ModelReference] = lambda model: model) -> Session:
    """Put a session together from text that comes from outside.

    Args:
        found: what a model is called now.

    Raises:
        RecipeError: not such a text, of another version, or too large.
        PointError, MaskError, LatentError, ConfigError: a part of it cannot be used.
    """
    values = read_object("kept work", parse_json(text, _MOST_CHARACTERS), needed=("outline", "pieces"), known=())
    needed = ("session", "space", "settings", "opened", "revision", "past", "now", "future")
    outline = read_object("the outline of kept work", values["outline"], needed=needed, known=("branches", "arrived"))
    if isinstance(outline["session"], bool) or outline["session"] != VERSION:
        raise RecipeError(
            f"kept work of version {outline['session']!r:.40} cannot be read; this program knows version {VERSION}"
        )
    if not isinstance(values["pieces"], dict):
        raise RecipeError("the pieces of kept work are given by name")
    reader = _Reader(values["pieces"], found)
    # First what is on the screen: if that cannot be used, nothing can.
    now = reader.moment(outline["now"])
    past, future = (
        tuple(map(reader.moment, read_list(f"moments in the {name}", outline[name], _MOST_NAMED)[-MOST_MOMENTS:]))
        for name in ("past", "future")
    )
    left = read_list("moments on branches", outline.get("branches", []), MOST_MOMENTS)
    arrived = read_numbers("points that have arrived", outline.get("arrived", []), len(now.pairs))
    return Session(
        now=now,
        settings=read_settings(outline["settings"], outline["space"]),
        space=outline["space"],
        opened=tuple(map(_read_opened, read_list("opened models", outline["opened"], _MOST_OPENED))),
        past=past,
        future=future,
        branches=tuple(map(reader.moment, left)),
        arrived=tuple(_ends(now.pairs[number]) for number in sorted(arrived)),
        revision=_read_count("a revision", outline["revision"]),
    )


def _ends(pair: Point) -> tuple[Xy, Xy]:
    return pair.handle, pair.target


def _read_count(what: str, number: Any) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 1 << 53:
        raise RecipeError(f"{number!r:.40} is not the number of {what}")
    return int(number)


# ---- taking apart --------------------------------------------------------------------------------------------------

_PER_PIECE = 24  # characters around a piece
_VALUES_BESIDE = 8 * _MOST_OPENED  # values in the outline, about


def _fitting(opened: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Of opened models as many as are read again, the newest."""
    readable = [list(pair) for pair in opened if max(map(len, pair)) <= _LONGEST_NAME][-_MOST_OPENED:]
    room = _ROOM_FOR_OPENED
    for number, pair in reversed(list(enumerate(readable))):
        room -= len(_dumps(pair))
        if room < 0:
            return readable[number + 1 :]
    return readable


def _nearest(store: _Store, session: Session) -> tuple[list[Moment], list[Moment]]:
    """Of past and future as many moments as fit, by turns, the nearest first."""
    sides: tuple[list[Moment], list[Moment]] = ([], [])
    waiting = [list(session.past), list(session.future)]
    while waiting[0] or waiting[1]:
        for side, left in zip(sides, waiting, strict=True):
            if left and store.admit(left[-1]):
                side.append(left.pop())
            else:
                left.clear()
    return sides


class _Store:
    """Names, sizes and texts of pieces, within a budget.

    Args:
        there: names of pieces whose texts nobody needs.
        room: characters.
    """

    def __init__(self, there: frozenset[str], room: int) -> None:
        self._there, self._room = there, room
        self._numbers, self._pixels, self._work = _MOST_NUMBERS, _MOST_PIXELS, _MOST_WORK
        self._values = MOST_VALUES - _VALUES_BESIDE
        self._sizes: dict[str, int] = {}
        self._named: set[str] = set()  # pictures whose recipe is read
        self._sources: dict[str, Callable[[], str]] = {}
        self._texts: dict[str, str] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Of all pieces."""
        return tuple(self._sizes)

    def texts(self) -> dict[str, str]:
        """Of those that are not there yet, by name."""
        missing = [name for name in self._sizes if name not in self._there]
        return {name: self._texts[name] if name in self._texts else self._sources[name]() for name in missing}

    def admit(self, moment: Moment) -> bool:
        """Take in what a moment is made of, without its frames; False: there is no room, and nothing was taken in."""

        def add() -> None:
            value = self._moment_value(moment, frames=False)
            self._charge(_dumps(value))

        return self._attempt(add)

    def admit_frames(self, moment: Moment) -> bool:
        """Likewise its frames."""
        return len(moment.frames) <= _MOST_FRAMES and self._attempt(
            lambda: self._charge(_dumps([self._latent(ws) for ws in moment.frames]))
        )

    def moment(self, moment: Moment, *, frames: bool) -> str:
        """Take in the moment itself; returns its name."""
        value = self._moment_value(moment, frames=frames)
        return self._take("moment", moment, frames, lambda: _dumps(value))

    def _attempt(self, add: Callable[[], object]) -> bool:
        before = dict(self._sizes), set(self._named)
        left = self._room, self._numbers, self._pixels, self._work, self._values
        add()
        if min(self._room, self._numbers, self._pixels, self._work, self._values) >= 0:
            return True
        self._sizes, self._named = before
        self._room, self._numbers, self._pixels, self._work, self._values = left
        return False

    def _charge(self, text: str) -> None:
        self._room -= len(text)
        self._values -= values_in(text)

    def _moment_value(self, moment: Moment, *, frames: bool) -> dict[str, Any]:
        some: dict[str, Any] = {"off": sorted(moment.off)} if moment.off else {}
        some |= {"seen": moment.seen} if moment.seen else {}
        return some | {
            "start": self._picture(moment.start),
            "picture": self._picture(moment.recipe),
            "points": points_value(moment.pairs),
            "pending": None if moment.pending is None else list(moment.pending),
            "mask": self._mask(moment.mask),
            "frames": [self._latent(ws) for ws in moment.frames] if frames else [],
        }

    def _picture(self, recipe: Recipe) -> str:
        """The name of the picture that a recipe makes; those before it are taken in, too."""
        done = _known_pieces["recipe"].get(recipe)
        if done in self._sizes:
            return self._read_as_recipe(done, recipe)
        results = [self._latent(_known(ws)) for ws in recipe.results]

        def start() -> str:
            return _dumps({"recipe": json.loads(recipe.up_to(0).to_json(results=False)), "result": results[0]})

        name = self._take("start", recipe.start, (recipe.model, recipe.image_size, results[0]), start)
        for edit, result in zip(recipe.edits, results[1:], strict=True):
            value = {"before": name, "edit": self._edit(edit), "result": result}
            name = self._take("picture", edit, (name, result), lambda value=value: _dumps(value))  # type: ignore[misc]
        _known_pieces["recipe"].put(recipe, name)
        return self._read_as_recipe(name, recipe)

    def _read_as_recipe(self, name: str, recipe: Recipe) -> str:
        if name not in self._named:
            self._named.add(name)
            self._work -= len(recipe.results) * _latent_of(recipe).size
        return name

    def _edit(self, edit: Edit) -> str:
        mask, recorded = self._mask(edit.mask), None if edit.recorded is None else self._latent(edit.recorded)

        def text() -> str:
            points, settings = points_value(edit.points), dict(edit.settings)
            value = {"points": points, "mask": mask, "space": edit.space, "settings": settings, "recorded": recorded}
            return _dumps(value | by_hand_value(edit))

        return self._take("edit", edit, None, text)

    def _latent(self, ws: np.ndarray) -> str:
        before = len(self._sizes)
        name = self._take("latent", ws, None, lambda: _dumps(latent_value(ws, deflated=True)))
        self._numbers -= ws.size * (len(self._sizes) - before)
        return name

    def _mask(self, mask: Mask | None) -> dict[str, Any] | None:
        if mask is None:
            return None
        before, allowed = len(self._sizes), mask.allowed
        name = self._take("mask", allowed, None, lambda: _dumps({"runs": runs_of(allowed)}))
        self._pixels -= allowed.size * (len(self._sizes) - before)
        return {"mask": name, "picture": mask.picture}

    def _take(self, kind: str, of: Any, facts: Any, text: Callable[[], str]) -> str:
        """Take in a piece, and return its name.

        Args:
            kind, of, facts: what its text follows from; made once as long as the object ``of`` lives.
        """
        known = _known_pieces[kind].get(of)
        if known is None or known[0] != facts:
            made = text()
            known = facts, _name(made), len(made), values_in(made)
            _known_pieces[kind].put(of, known)
            self._texts[known[1]] = made
        _, name, size, values = known
        if name not in self._sizes:
            self._sizes[name] = size
            self._sources[name] = text
            self._room -= size + _PER_PIECE
            self._values -= values + 1
        return name


def _known(ws: np.ndarray | None) -> np.ndarray:
    assert ws is not None, "sessions know the latents of all their pictures"
    return ws


def _name(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode("ascii")).digest()[:12]).decode("ascii")


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


class _ByIdentity:
    """What is known about an object as long as it lives, by the object itself, not by what it equals."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Any], Any]] = {}

    def get(self, of: Any) -> Any:
        known = self._known.get(id(of))
        return None if known is None or known[0]() is not of else known[1]

    def put(self, of: Any, value: Any) -> None:
        key = id(of)

        def forget(reference: weakref.ref[Any]) -> None:
            # Another object may have taken its place by now.
            if self._known.get(key, (None,))[0] is reference:
                self._known.pop(key, None)

        self._known[key] = weakref.ref(of, forget), value


# By kind; moments, recipes, edits and arrays are never written to. Of recipes the name of the picture alone.
_known_pieces = {kind: _ByIdentity() for kind in ("moment", "recipe", "start", "picture", "edit", "latent", "mask")}


# ---- putting together ----------------------------------------------------------------------------------------------


class _Reader:
    """Reads pieces, each once; what moments share is shared again."""

    def __init__(self, pieces: Mapping[str, Any], found: Callable[[ModelReference], ModelReference]) -> None:
        self._pieces, self._found = pieces, found
        self._numbers, self._pixels, self._work = _MOST_NUMBERS, _MOST_PIXELS, _MOST_WORK
        self._latents: dict[str, np.ndarray] = {}
        self._masks: dict[tuple[str, tuple[int, int]], np.ndarray] = {}
        self._recipes: dict[str, Recipe] = {}
        self._edits: dict[str, Edit] = {}  # by the picture that they lead to
        self._moments: dict[str, Moment] = {}
        self._frames: dict[tuple[str, ...], tuple[np.ndarray, ...]] = {}

    def _piece(self, name: Any, what: str, needed: Iterable[str], known: Iterable[str] = ()) -> dict[str, Any]:
        if not isinstance(name, str) or name not in self._pieces:
            raise RecipeError(f"{what} of the kept work is missing")
        return read_object(f"{what} of the kept work", self._pieces[name], needed=needed, known=known)

    def moment(self, name: Any) -> Moment:
        """A moment of the history."""
        if isinstance(name, str) and name in self._moments:
            return self._moments[name]
        needed = ("start", "picture", "points", "pending", "mask", "frames")
        value = self._piece(name, "a moment", needed, ("off", "seen"))
        start, recipe = self._recipe(value["start"]), self._recipe(value["picture"])
        size = start.image_size
        if (
            recipe.image_size != size
            or recipe.model != start.model
            or _latent_of(recipe).shape != _latent_of(start).shape
        ):
            raise RecipeError("a moment of the kept work begins with a picture of another model")
        newest = len(recipe.edits)
        pairs = tuple(_complete(point, newest) for point in read_points(value["points"], size, newest))
        moment = Moment(
            start=start,
            recipe=recipe,
            pairs=pairs,
            off=read_numbers("switched-off points", value.get("off", []), len(pairs)),
            pending=None if value["pending"] is None else read_point("the waiting handle", value["pending"], size),
            mask=self._mask(value["mask"], newest, size),
            frames=self._frames_of(value["frames"], recipe),
            seen=_read_count("a picture", value.get("seen", 0)),
        )
        self._moments[name] = moment
        return moment

    def _frames_of(self, names: Any, recipe: Recipe) -> tuple[np.ndarray, ...]:
        key = tuple(read_list("frames", names, _MOST_FRAMES))
        if not all(isinstance(name, str) for name in key):
            raise RecipeError("frames are given by name")
        if key not in self._frames:
            self._frames[key] = tuple(map(self._latent, key))
        if any(ws.shape != _latent_of(recipe).shape for ws in self._frames[key]):
            raise LatentError("a frame of the kept work is of another model")
        return self._frames[key]

    def _recipe(self, name: Any) -> Recipe:
        """The recipe of a picture, with all its results."""
        if isinstance(name, str) and name in self._recipes:
            return self._recipes[name]
        chain: list[tuple[str, dict[str, Any]]] = []
        at = name
        while not (isinstance(at, str) and at in self._recipes):
            if len(chain) > MOST_EDITS:
                raise RecipeError(f"a picture of the kept work has more than {MOST_EDITS} edits")
            value = self._piece(at, "a picture", ("result",), ("recipe", "before", "edit"))
            if set(value) not in ({"recipe", "result"}, {"before", "edit", "result"}):
                raise RecipeError("a picture of the kept work has either a recipe, or an edit and what was before it")
            if "recipe" in value:
                self._recipes[at] = self._start(value)
                break
            chain.append((at, value))
            at = value["before"]
        before = self._recipes[at]
        edits, results = list(before.edits), list(before.results)
        for key, value in reversed(chain):
            edits.append(self._edits.get(key) or self._edit(value["edit"], len(edits), before.image_size))
            results.append(self._latent(value["result"]))
        self._work -= len(results) * _latent_of(before).size
        if self._work < 0:
            raise RecipeError("the kept work has too many long recipes")
        if not chain:
            return before
        recipe = replace(before, edits=tuple(edits), results=tuple(results))
        for (key, _), edit in zip(chain, reversed(recipe.edits[len(before.edits) :]), strict=True):
            self._edits[key] = edit
        self._recipes[name] = recipe
        return recipe

    def _start(self, value: dict[str, Any]) -> Recipe:
        recipe = Recipe.from_json(_dumps(value["recipe"]))
        if recipe.edits:
            raise RecipeError("the start of a picture of the kept work has edits already")
        return replace(recipe, model=self._found(recipe.model)).with_results([self._latent(value["result"])])

    def _edit(self, name: Any, number: int, size: tuple[int, int]) -> Edit:
        value = self._piece(name, "an edit", ("points", "mask", "space", "settings", "recorded"), ("by hand",))
        edit = read_edit(value | {"mask": None, "recorded": None, "by hand": False}, number, size)
        mask = self._mask(value["mask"], number, size)
        recorded = None if value["recorded"] is None else self._latent(value["recorded"])
        return replace(edit, mask=mask, recorded=recorded, by_hand=read_by_hand(value))

    def _latent(self, name: Any) -> np.ndarray:
        if isinstance(name, str) and name in self._latents:
            return self._latents[name]
        value = self._piece(name, "a latent code", ("shape", "deflated"))
        ws = read_latent(value, most=self._numbers)
        self._numbers -= ws.size
        self._latents[name] = ws
        return ws

    def _mask(self, value: Any, number: int, size: tuple[int, int]) -> Mask | None:
        if value is None:
            return None
        value = read_object("a mask of the kept work", value, needed=("mask", "picture"), known=(), error=MaskError)
        name = value["mask"]
        runs = self._piece(name, "a mask", ("runs",))
        mask = self._masks.get((name, size))
        if mask is None:
            self._pixels -= size[0] * size[1]
            if self._pixels < 0:
                raise MaskError(f"the masks of the kept work have more than {_MOST_PIXELS} pixels together")
            mask = self._masks[name, size] = read_runs(runs, number, size).allowed
        # Read again for the number alone.
        picture = value["picture"]
        if not isinstance(picture, int) or isinstance(picture, bool) or not 0 <= picture <= number:
            raise MaskError(
                f"a mask of the kept work belongs to picture {picture!r:.40}, which does not come before it"
            )
        return Mask(allowed=mask, picture=picture)


def _complete(point: Point, newest: int) -> Point:
    return replace(
        point,
        origin=point.handle if point.origin is None else point.origin,
        picture=newest if point.picture is None else point.picture,
    )


def _read_opened(value: Any) -> tuple[str, str]:
    title, name = value if isinstance(value, list) and len(value) == 2 else (None, None)
    if not isinstance(title, str) or not isinstance(name, str) or max(len(title), len(name)) > _LONGEST_NAME:
        raise RecipeError("an opened model of the kept work is given as [title, name]")
    return title, name


def _latent_of(recipe: Recipe) -> np.ndarray:
    return _known(recipe.latent)
