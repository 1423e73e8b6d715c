"""Options that say which picture, and how it is dragged: those of `draggan drag` and of `draggan edits`."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from draggan.cli.options import add_class, add_setting, file_of, name_of, which_model
from draggan.config import DragConfig, check_seed, check_truncation
from draggan.errors import ConfigError

if TYPE_CHECKING:
    from draggan.cli.options import Options
    from draggan.config import Space
    from draggan.engine.local import LocalEngine
    from draggan.recipe import Edit, ModelReference, Recipe
    from draggan.session_file import SessionFile

__all__ = ["add", "begun", "check", "check_places", "edit_of", "given_recipe", "given_session"]

# Settings of a drag that are options here: those that anybody may want to choose, and the others.
_USUAL_OPTIONS = ("stop_distance", "naturalness", "space", "mask_hold")
_EXPERT_OPTIONS = (
    *("solver", "step_size", "trust_radius", "max_departure", "free_rows", "row_independence"),
    *("tracker", "r1", "r2", "level", "mask_weight"),
)
_DRAG_OPTIONS = (*_USUAL_OPTIONS, *_EXPERT_OPTIONS)
_OF_THE_MODEL = ("step_size", "solver", "level")  # where that has its own


def add(parser: argparse.ArgumentParser, *, sessions: bool = False) -> None:
    """The options.

    Args:
        sessions: whether what it begins with may be a session's file, too.
    """
    _add_picture(parser.add_argument_group("which picture"), sessions=sessions)
    _add_points(parser.add_argument_group("what to drag"))
    how = parser.add_argument_group(
        "how it is dragged", "Lengths in [px at 512 px] grow with the picture: at 1024 px they are twice as long."
    )
    how.add_argument(
        "--steps", type=int, metavar="N", help=f"the drag ends after this many (default: {DragConfig.max_steps})"
    )
    for name in _USUAL_OPTIONS:
        add_setting(how, DragConfig, name)
    expert = parser.add_argument_group("how it is dragged, for experts")
    for name in _EXPERT_OPTIONS:
        add_setting(expert, DragConfig, name, default="the model's" if name in _OF_THE_MODEL else "")


def _add_picture(picture: Options, *, sessions: bool) -> None:
    """Which one is dragged."""
    picture.add_argument(
        "--model", type=name_of, metavar="MODEL", help=f"{which_model()} (default: cat, or the recipe's)"
    )
    picture.add_argument("--seed", type=int, metavar="N", help="which of its pictures, from 0 on (default: 0)")
    picture.add_argument(
        "--truncation",
        type=float,
        metavar="PSI",
        help="0: the average picture, 1: the seed's own (default: the model's)",
    )
    add_class(picture)
    picture.add_argument(
        "--latent", type=file_of, metavar="FILE", help="begin with a latent code (.npy, .npz or .pt) instead of a seed"
    )
    kinds = "a picture, a film, a recipe (.json) or a session (.draggan)"
    if not sessions:
        kinds = "a picture, a film or a recipe (.json)"
    picture.add_argument("--recipe", type=file_of, metavar="FILE", help=f"go on from saved work: {kinds}")


def _add_points(points: Options) -> None:
    """What goes where, and what may change for it."""
    points.add_argument(
        "--point",
        type=_point_pair,
        action="append",
        default=[],
        metavar="X,Y:X,Y",
        help="a handle and its target in image pixels; may be given more than once",
    )
    points.add_argument(
        "--mask",
        type=file_of,
        metavar="FILE",
        help="a picture of the same size: white may change, black stays (default: all may change)",
    )


def _point_pair(text: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """``60,70:80,64`` as ((60, 70), (80, 64))."""
    try:
        handle, target = text.split(":")
        (x, y), (u, v) = (tuple(float(n) for n in point.split(",")) for point in (handle, target))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a pair of points; write handle and target in pixels like 60,70:80,64"
        ) from None
    return (x, y), (u, v)


def check(args: argparse.Namespace) -> None:
    """Refuse options that do not go together, and values that no picture or drag can have."""
    from draggan.recipe import read_settings
    from draggan.terminal import check_model

    begins = {"--recipe": args.recipe, "--latent": args.latent, "--seed": args.seed}
    begins |= {"--truncation": args.truncation, "--class": args.label}
    used = [name for name, value in begins.items() if value is not None]
    if "--recipe" in used and len(used) > 1:
        raise ConfigError(f"{used[1]} does not go with --recipe, which says by itself what to begin with; leave it out")
    for name in ("--seed", "--truncation", "--class"):
        if {"--latent", name} <= set(used):
            raise ConfigError(f"{name} does not go with --latent; give one of them")
    if not args.point:
        how = {name: getattr(args, name) for name in ("mask", "steps", *_DRAG_OPTIONS)}
        for name in (name.replace("_", "-") for name, value in how.items() if value is not None):
            raise ConfigError(f"--{name} says how points are dragged; add --point, or leave it out to run the recipe")
    if args.truncation is not None:
        check_truncation(args.truncation, "--truncation")
    if args.seed is not None:
        check_seed(args.seed)
    read_settings(*_settings(args))
    if args.model is not None:
        check_model(args.model)


def check_places(args: argparse.Namespace, model: str, given: Recipe | None) -> None:
    """Refuse points and a mask that no picture of that size can have, where its size is known without the model.

    Args:
        given: the recipe to begin with, if there is one; else the list may know the model.

    Raises:
        PointError, MaskError: one of them does not fit.
    """
    from draggan.checkpoints.catalogue import listed_entry
    from draggan.images import read_mask
    from draggan.recipe import read_points

    entry = listed_entry(model)
    size = given.image_size if given is not None else entry.size if entry is not None else None
    if size is not None:
        read_points(args.point, size)
        if args.mask is not None:
            read_mask(args.mask, size)


def given_session(args: argparse.Namespace) -> SessionFile | None:
    """The session's file to begin with, if one was given."""
    from draggan.session_file import SUFFIX, read_session_file

    if args.recipe is None or args.recipe.suffix.lower() != SUFFIX:
        return None

    def found(model: ModelReference) -> ModelReference:
        return model if args.model is None else dataclasses.replace(model, name=args.model)

    return read_session_file(args.recipe, found=found)


def given_recipe(args: argparse.Namespace) -> Recipe | None:
    """The recipe to begin with, if one was given that is no session's file."""
    from draggan.export import read_recipe

    if args.recipe is None:
        return None
    recipe = read_recipe(args.recipe)
    if args.model is None:
        return recipe
    # The same weights elsewhere: the engine compares their hash with the recipe's.
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, name=args.model))


def begun(engine: LocalEngine, args: argparse.Namespace, model: str) -> Recipe:
    """The picture to begin with: a seed's, or that of a latent code in a file."""
    from draggan.checkpoints.latents import fit_latent, read_latent
    from draggan.recipe import ModelReference, Recipe

    if args.latent is None:
        return engine.begin(model, seed=args.seed or 0, truncation=args.truncation, label=args.label)
    generator = engine.models.load(model)
    ws = fit_latent(read_latent(args.latent), generator.num_ws, generator.w_dim)
    reference = ModelReference(name=model, sha256=engine.models.sha256(model))
    return Recipe(model=reference, image_size=generator.image_size, start=ws)


def edit_of(args: argparse.Namespace, recipe: Recipe) -> Edit:
    """The drag that the options say.

    Args:
        recipe: of the picture that it begins with.
    """
    from draggan.images import read_mask
    from draggan.recipe import Edit, Mask, read_points

    settings, space = _settings(args)
    return Edit(
        points=read_points(args.point, recipe.image_size),
        mask=None if args.mask is None else Mask(allowed=read_mask(args.mask, recipe.image_size)),
        space=space,
        settings=settings,
    )


def _settings(args: argparse.Namespace) -> tuple[dict[str, Any], Space]:
    """The settings of the drag, as they were given, and its latent space."""
    settings = {name: getattr(args, name) for name in _DRAG_OPTIONS if getattr(args, name) is not None}
    space = settings.pop("space", DragConfig.space)
    return {"max_steps": DragConfig.max_steps if args.steps is None else args.steps, **settings}, space
