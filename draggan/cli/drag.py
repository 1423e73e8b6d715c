"""``draggan drag``: drag points of a picture and save the result."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from draggan.cli import edit_options
from draggan.cli.options import add_json, add_machine, file_of, path_of
from draggan.errors import ModelNotFound, PhotoError, PointError
from draggan.program import own_command

if TYPE_CHECKING:
    import numpy as np

    from draggan.engine.base import RunningDrag, Update
    from draggan.engine.local import LocalEngine
    from draggan.inversion import Photo
    from draggan.recipe import Edit, Recipe
    from draggan.session_file import SessionFile

__all__ = ["HELP", "NAME", "add_options", "joined", "run"]

NAME = "drag"
HELP = "drag points of a picture and save the result"

_OUTCOMES = {
    "done": "nothing left to drag: the recipe has its result already",
    "arrived": "arrived",
    "faded": "arrived, but the picture has lost much of its detail on the way",
    "max_steps": "step limit reached",
    "stalled": "as far as it goes",
    "unlikely": "stopped before the picture would be unlike any that this model makes,",
    "far": "stopped, as pulls together have changed the picture as much as this model can take,",
    "lost": "stopped before what is under a point would be lost,",
    "unsure": "the points may have arrived, but some look too different now to be sure",
    "stretched": "the points may have arrived, but the picture may only have been stretched or squeezed there",
    "stopped": "stopped",
    "diverged": "the optimisation ran out of bounds",
}
# What is said of some behind that, and how long it took.
_BESIDES = {
    "max_steps": "kept the best picture so far",
    "stalled": "this model makes no picture nearer to that; kept the nearest one",
    "unlikely": "--max-departure 100 goes on",
    "lost": "kept the nearest picture in which its place was certain",
    "diverged": "kept the best picture so far; try a smaller --step-size",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.usage = (
        "%(prog)s [--model MODEL] [--seed N] --point X,Y:X,Y [--out FILE] [OPTION ...]\n"
        "       %(prog)s --recipe FILE [--point X,Y:X,Y] [--out FILE] [OPTION ...]"
    )
    edit_options.add(parser, sessions=True)
    written = parser.add_argument_group("what is written", "Pictures are .png, .jpg or .webp files.")
    written.add_argument("--out", type=path_of, metavar="FILE", help="write the result here")
    written.add_argument("--before", type=path_of, metavar="FILE", help="write the picture before the drag here")
    written.add_argument(
        "--points-out", type=path_of, metavar="FILE", help="write the result, enlarged, with points here"
    )
    written.add_argument(
        "--animation", type=path_of, metavar="FILE", help="write the drag as a .gif, .webp or .mp4 here"
    )
    written.add_argument(
        "--recipe-out",
        type=path_of,
        metavar="FILE",
        help="write how the result is made here: a recipe (.json) or a session (.draggan)",
    )
    written.add_argument(
        "--photo", type=file_of, metavar="PHOTO", help="put the result back into this photo, which the session is of"
    )
    written.add_argument("--caption", action="store_true", help="write 'AI-generated' into a corner of what is written")
    add_json(written)
    add_machine(parser)


def joined(argv: Sequence[str]) -> list[str]:
    """``--point VALUE`` as one word: argparse would take a value that begins with a minus sign for an option."""
    words: list[str] = []
    for word in argv:
        if words and words[-1] == "--point":
            words[-1] = f"--point={word}"
        else:
            words.append(word)
    return words


def run(args: argparse.Namespace) -> int:
    """Drag, write what was asked for, and say what happened."""
    from draggan.export import details_of
    from draggan.terminal import ensure_downloaded

    _check(args)
    work = edit_options.given_session(args)
    given = edit_options.given_recipe(args) if work is None else work.session.recipe
    photo = None if args.photo is None else _photo_of(args.photo, given, work)
    model = given.model.name if given is not None else args.model or "cat"
    edit_options.check_places(args, model, given)
    try:
        ensure_downloaded(model, yes=args.yes)
    except ModelNotFound as e:
        if given is None or args.model is not None:
            raise
        raise ModelNotFound(f"{e}; if the recipe was made with a file of yours, say where it is with --model") from e
    # Only now: a mistake need not wait for PyTorch.
    from draggan.engine.local import LocalEngine
    from draggan.engine.models import AnyModels

    started = time.perf_counter()
    engine = LocalEngine(AnyModels(args.device))
    for tuning in () if work is None else work.tunings.values():
        engine.keep_tuning(tuning)
    try:
        recipe = edit_options.begun(engine, args, model) if given is None else given
        engine.models.load(model)
        loaded = time.perf_counter()
        before, edit = _to_do(engine, args, recipe)
        if edit is None:
            # The recipe has its result, or no edit at all.
            complete = recipe.with_results([*before.results, recipe.latent]) if recipe.edits else before
            dragged = _Dragged(before=before, after=complete, running=None, last=None)
        else:
            running = engine.drag(before, edit)
            last = _watched(running, quiet=args.json)
            dragged = _Dragged(before=before, after=running.reached(), running=running, last=last)
        result = details_of(dragged.asked) | dragged.measures() | {"load_seconds": round(loaded - started, 3)}
        written = _written(engine, args, dragged, work, photo)
        if args.json:
            print(json.dumps(result | {"files": [str(path) for path in written]}))
        else:
            _say(dragged, written)
        return 0
    finally:
        engine.close()


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot be written, or makes no sense, before any work that would be lost."""
    from draggan.export import check_animation_path, check_picture_path

    if not args.point and args.recipe is None:
        raise PointError("no points were given; add --point X,Y:X,Y, a handle and its target in image pixels")
    edit_options.check(args)
    for path in (args.out, args.before, args.points_out):
        if path is not None:
            check_picture_path(path)
    if args.animation is not None:
        check_animation_path(args.animation)


def _photo_of(path: Path, recipe: Recipe | None, work: SessionFile | None) -> Photo:
    """The photo to put the result back into.

    Raises:
        PhotoError: the session is of no photo, or of another one.
    """
    place = None if work is None or recipe is None else work.places.get(recipe.model.tuning)
    if place is None:
        raise PhotoError(f"--photo goes with a session of that photo; open it with `{own_command()} invert` first")
    from draggan.photo import read_photo

    photo = read_photo(path)
    if photo.sha256 != place.photo_sha256:
        raise PhotoError(f"{photo.name} is not the photo that this session is of; give the one that was opened")
    return photo


def _pasted(engine: LocalEngine, photo: Photo, recipe: Recipe, work: SessionFile) -> np.ndarray:
    """The photo with what was dragged in its place; where nothing has changed, it stays as it is."""
    from draggan.inversion import paste, read_crop

    crop = read_crop([list(xy) for xy in work.places[recipe.model.tuning].crop])
    after, before = engine.picture(recipe), engine.picture(recipe.up_to(0))
    return paste(photo, crop, after, before=before, mask=recipe.allowed)


def _with_recipe(work: SessionFile | None, recipe: Recipe) -> SessionFile:
    """The session's file with this recipe's work in it."""
    from draggan.session import Session
    from draggan.session_file import SessionFile

    if work is None:
        start = recipe.up_to(0)
        return SessionFile(session=Session.of(start).with_work(recipe))
    return dataclasses.replace(work, session=work.session.with_work(recipe))


def _to_do(engine: LocalEngine, args: argparse.Namespace, recipe: Recipe) -> tuple[Recipe, Edit | None]:
    """What is there before the drag, complete, and the drag: the points' or else the recipe's last, if it is to do."""
    if not args.point:
        before = engine.complete(recipe.up_to(max(len(recipe.edits) - 1, 0)))
        return before, None if recipe.latent is not None or not recipe.edits else recipe.edits[-1]
    return engine.complete(recipe), edit_options.edit_of(args, recipe)


def _watched(running: RunningDrag, *, quiet: bool) -> Update | None:
    """Follow a drag to its end, with a line on a terminal; Ctrl+C stops it, and what was reached is kept."""
    from draggan.terminal import Line, follow

    line = Line(shown=not quiet)

    def show(update: Update) -> None:
        line(f"step {update.index}: {update.distances.max():.1f} px to go")

    try:
        return follow(running, show)
    finally:
        line.end()


@dataclass(frozen=True)
class _Dragged:
    """What a command has done.

    Attributes:
        before, after: recipes, complete.
        running: the drag; None: there was nothing left to drag.
        last: what was known of it at its end; None: it was stopped before its first step, or there was none.
    """

    before: Recipe
    after: Recipe
    running: RunningDrag | None
    last: Update | None

    @property
    def asked(self) -> Recipe:
        """With what was to be dragged, also where nothing had to be done any more."""
        return self.after if self.running is None else self.before.then(self.running.edit)

    @property
    def latents(self) -> list[np.ndarray]:
        """Of its film."""
        between = [self.before.latent] if self.running is None else self.running.frames
        return [ws for ws in (*between, self.after.latent) if ws is not None]

    @property
    def outcome(self) -> str:
        """As in `draggan.DragStep`; or that nothing was left to do."""
        if self.running is None:
            return "done"
        return (None if self.last is None else self.last.outcome) or "stopped"

    def measures(self) -> dict[str, object]:
        """How it went, for programs."""
        last = self.last
        steps, seconds = (0, 0.0) if last is None else (last.index, last.seconds)
        return {
            "steps": steps,
            "outcome": self.outcome,
            "tracked": [] if last is None else last.handles.tolist(),
            "distances": [] if last is None else [round(float(d), 3) for d in last.distances],
            "faded": last is not None and last.faded,
            "way": 1.0 if last is None else round(last.way, 4),
            "lost": [] if last is None else last.lost.tolist(),
            "unsure": last is not None and last.unsure,
            "seconds": round(seconds, 3),
            "seconds_per_step": round(seconds / max(steps, 1), 4),
        }


def _written(
    engine: LocalEngine,
    args: argparse.Namespace,
    dragged: _Dragged,
    work: SessionFile | None,
    photo: Photo | None,
) -> list[Path]:
    """The files that were asked for."""
    from draggan.export import Provenance, save_animation, save_picture, save_recipe
    from draggan.images import draw_points
    from draggan.session_file import SUFFIX

    recipe, last = dragged.after, dragged.last
    details = {} if last is None else {"steps": last.index}
    after = engine.picture(recipe)
    drawn = Provenance(caption=args.caption or None, door="command line")
    written = []
    if args.out:
        picture, of = after, drawn
        if photo is not None and work is not None:
            picture = _pasted(engine, photo, recipe, work)
            of = dataclasses.replace(drawn, source="compositeWithTrainedAlgorithmicMedia")
        written.append(save_picture(args.out, picture, details, recipe=recipe, provenance=of))
    if args.animation:
        frames = [engine.render(recipe, ws) for ws in dragged.latents]
        written.append(save_animation(args.animation, frames, details, recipe=recipe, provenance=drawn))
    if args.before:
        before = dragged.before
        written.append(save_picture(args.before, engine.picture(before), recipe=before, provenance=drawn))
    if args.points_out and last is not None:
        enlarge = math.ceil(512 / max(recipe.image_size))
        picture = draw_points(after, last.handles, last.targets, enlarge=enlarge)
        written.append(save_picture(args.points_out, picture, details, recipe=recipe, provenance=drawn))
    if args.recipe_out:
        is_session = args.recipe_out.suffix.lower() == SUFFIX
        kept = _with_recipe(work, recipe).save(args.recipe_out) if is_session else save_recipe(args.recipe_out, recipe)
        written.append(kept)
    return written


def _say(dragged: _Dragged, written: Sequence[Path]) -> None:
    """How it went, for people."""
    last, outcome = dragged.last, dragged.outcome
    if last is None:
        print(_OUTCOMES[outcome])
    else:
        steps = f"{last.index} step{'' if last.index == 1 else 's'}"
        ended = f" after {steps}, {last.seconds:.1f} s"
        if last.unsure:
            ended = f" ({steps}, {last.seconds:.1f} s)"
        elif outcome != "arrived":
            ended += f", {100 * last.way_gone:.0f} % of the way"
        said = ("stretched" if last.stretched else "unsure") if last.unsure else "faded" if last.faded else outcome
        print(_OUTCOMES[said] + ended + (f"; {_BESIDES[said]}" if said in _BESIDES else ""))
        points = zip(last.handles, last.targets, last.distances, last.lost, strict=True)
        for i, (h, t, d, gone) in enumerate(points, 1):
            so = " (not certain)" if gone else ""
            print(f"  point {i}: at ({h[0]:g}, {h[1]:g}), target ({t[0]:g}, {t[1]:g}), {d:.1f} px to go{so}")
    for path in written:
        print(f"  wrote {path}")
    if not written:
        print("  nothing was written; add --out result.png to keep the picture")
