"""A page and what stands behind it; and what it is to show, as updates of its components."""

from __future__ import annotations

import html
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from itertools import count, zip_longest
from typing import Any, TypeAlias, TypeVar

import gradio as gr
import numpy as np
from gradio.context import LocalContext
from jaxtyping import Float, UInt8

from draggan.config import check_seed
from draggan.downloads import Terms, offer
from draggan.engine.base import Engine
from draggan.engine.models import Model, Models, portable_reference
from draggan.errors import ConfigError, LatentError
from draggan.recipe import Recipe
from draggan.session import Session
from draggan.ui import messages
from draggan.ui.canvas.component import frame_url
from draggan.ui.canvas.value import CanvasValue, canvas_value, is_outdated, with_canvas
from draggan.ui.drag_settings import chosen_settings, last_good_values, shown_settings
from draggan.ui.errors import PageError, SessionExpired, explained
from draggan.ui.finders import CropFinders, Expectations
from draggan.ui.frame_pacing import PreviewHeights
from draggan.ui.jobs import JobsByTab
from draggan.ui.layout import Parts
from draggan.ui.live_channel import LiveDrags
from draggan.ui.photos import KEPT, Photos
from draggan.ui.reading_turns import ReadingTurns
from draggan.ui.server.site import Site
from draggan.ui.start_pictures.component import pictures_of
from draggan.ui.tab_queue import TabQueue, visitor_of
from draggan.ui.thumbnails import Thumbnails

__all__ = ["Page", "Updates", "notice"]

T = TypeVar("T")
Updates: TypeAlias = dict[Any, Any]


class Page:
    """What handlers work with.

    Args:
        parts: the components.
        models: what the page offers.
        engine: draws and drags, for all tabs.
        live: likewise; what the canvas of ``parts`` steers.
        site: None: on this machine.

    Attributes:
        drags, downloads, films: under way, by tab; a photo that is being opened counts as a drag.
        openings: likewise; to stop one of these is not to want the photo any more.
        photos: those that people have sent.
        finders: propose what is cut out of them.
        expectations: how long opening one takes.
        searches: turns in which photos are searched for it: some seconds of computing each.
        thumbnails: small pictures of seeds.
        sizes, live_sizes: how large pictures are drawn in drags, and in those that follow a pointer.
        tabs: does what is asked for in a tab one thing after the other.
        site: where it is served; keeps account of uploaded files.
    """

    def __init__(
        self, parts: Parts, models: Models, engine: Engine, live: LiveDrags | None = None, site: Site | None = None
    ) -> None:
        self.parts, self.models, self.engine = parts, models, engine
        self.live = LiveDrags() if live is None else live
        self.drags, self.downloads, self.films = JobsByTab("drag"), JobsByTab("download"), JobsByTab("film")
        self.openings = JobsByTab("photo")
        self.photos = Photos(engine.forget_tuning)
        self.finders, self.expectations = CropFinders(models, engine), Expectations(models, engine)
        self.searches = ReadingTurns(at_once=1, places=2, what="searched")
        self.tabs = TabQueue(parts.session)
        self.thumbnails = Thumbnails(engine)
        # A pointer is followed as smoothly as can be.
        self.sizes, self.live_sizes = PreviewHeights(budget=0.1), PreviewHeights(budget=0.04)
        self.site = site or Site()
        self.site.also_remove(self._remove_photos)
        self._changes = count(1)

    def _remove_photos(self) -> None:
        """Those that nobody works on any more, and weights that were tuned for them."""
        self.photos.sweep()
        self.engine.forget_unused_tunings(KEPT)

    # What a handler begins with

    def session_of(self, session: Session | None) -> Session:
        """The session; a fresh one for a caller that opened no page."""
        if session is not None:
            return session
        first = self.models.listed()[0]
        return Session.of(self.begin(first.name, 0, first.truncation))

    def begin(self, model: str, seed: int | None, truncation: float | None, label: int | None = 0) -> Recipe:
        """The recipe of a seed's picture; ``label`` counts only where the model has classes.

        Raises:
            LatentError, ConfigError: a seed, truncation or class that the controls cannot have.
        """
        if seed is None:
            raise LatentError(messages.NO_SEED)
        check_seed(seed)
        if not isinstance(truncation, (int, float)) or not 0 <= truncation <= 1:
            raise ConfigError(f"truncation {truncation} is not allowed; give a number from 0 to 1")
        classes = self.models.load(model).c_dim
        if classes and label is None:
            raise ConfigError(f"class {label} is not allowed; this model has the classes 0 to {classes - 1}")
        return self.engine.begin(model, seed=seed, truncation=truncation, label=label if classes else None)

    def drawn(self, session: Session | None, value: CanvasValue) -> Session:
        """The session with what the canvas shows.

        Raises:
            SessionExpired: the page shows what is no longer kept; anything done to the first picture would surprise.
        """
        there = self.session_of(session)
        if session is None and is_outdated(there, value):
            raise SessionExpired(messages.RELOAD)
        return with_canvas(there, value)

    def model_of(self, session: Session | None) -> str:
        """Name of the model on the canvas."""
        return self.models.listed()[0].name if session is None else session.model

    def truncation_of(self, session: Session) -> float:
        """Of other pictures of the model: as of this one, or, where this is a photo, as it suits the model."""
        return self.models.find(session.model).truncation if session.seed is None else session.truncation

    def with_settings(self, session: Session | None, values: Any) -> Generator[Updates, None, Session]:
        """The session with the settings that the page shows; if one is wrong, the page gets the last good ones back."""
        with explained():
            before = self.session_of(session)
        good = last_good_values(self.settings_of(before), values)
        back: Updates = {self.parts.settings: gr.HTML(value=good)}  # type: ignore[arg-type]  # any JSON value
        return (yield from self.attempt(lambda: chosen_settings(before, values), back))

    def attempt(self, work: Callable[[], T], back: Updates) -> Generator[Updates, None, T]:
        """What the work returns; if it fails, the page first gets back what was there before."""
        try:
            with explained():
                return work()
        except PageError as error:
            yield back | self.say(error.text, "bad")
            error.said_already()
            raise

    # What the page shows

    def show(
        self, session: Session, *, picture: bool = True, after_a_drag: bool = True, urgent: bool = False
    ) -> Updates:
        """The page at rest; ``urgent``: somebody has pressed Stop."""
        session = session.sent_to_page()
        if picture:
            session = session.shown_as(next(self._changes))
        canvas: dict[str, Any] = {"value": canvas_value(session), "busy": False, "live": None, "held": ""}
        beside: Updates = {}
        if picture:
            height, width = session.image_size
            canvas |= {
                "photo": session.recipe.is_of_photo,
                "size": [width, height],
                "frame": frame_url(self.picture(session.recipe, urgent=urgent)),
            }
            canvas |= self.history(session)
            beside = {self.parts.starts: gr.HTML(of=pictures_of(session, self.truncation_of(session)))}
        return (
            {self.parts.session: session, self.parts.canvas: gr.HTML(**canvas)}
            | beside
            | self.say(messages.hint(session))
            | self.enable(session, after_a_drag=after_a_drag)
        )

    def picture(self, recipe: Recipe, *, urgent: bool = False) -> UInt8[np.ndarray, "height width channels"]:
        """The picture that a recipe makes, in the time of whoever has called the handler."""
        return self.engine.picture(recipe, visitor=visitor_of(LocalContext.request.get(None)), urgent=urgent)

    def render(
        self, recipe: Recipe, ws: Float[np.ndarray, "1 num_ws w_dim"]
    ) -> UInt8[np.ndarray, "height width channels"]:
        """The same with another latent in place of its last."""
        return self.engine.render(recipe, ws, visitor=visitor_of(LocalContext.request.get(None)))

    def portable(self, recipe: Recipe) -> Recipe:
        """A recipe for others; see `portable_reference`."""
        return replace(recipe, model=portable_reference(self.models, recipe.model))

    def history(self, session: Session) -> dict[str, Any]:
        """Props of the canvas: the film of the drags, and every picture so far."""
        origins = session.origins

        # By the picture that the work began with, and then in the order in which they were made: none changes its place
        # when another one is gone to.
        def place(picture: tuple[int, str]) -> tuple[int, int]:
            root = picture[0]
            while root in origins:
                root = origins[root]
            return root, picture[0]

        story = [
            {
                "number": number,
                "kind": kind,
                "label": messages.picture_label(session.moment_of(number)),
                "origin": origins.get(number, 0),
            }
            for number, kind in sorted(session.pictures, key=place)
        ]
        return {"film": self._film(session), "story": story}

    def _film(self, session: Session) -> dict[str, Any]:
        """How many frames the drags so far have, where each drag ended, and a name that another film does not have."""
        recipes = [recipe for recipe, _ in session.frames]
        ends = [
            i for i, recipe in enumerate(recipes) if recipe is not (recipes[i + 1] if i + 1 < len(recipes) else None)
        ]
        return {"count": len(recipes), "ends": ends, "key": next(self._changes)}

    def note(self, updates: Updates) -> Updates:
        """The updates; where they bring a session, also hints on what to do next, and that the browser keeps it."""
        session = updates.get(self.parts.progress) or updates.get(self.parts.session)
        if session is None:
            return updates
        status = updates.get(self.parts.status)
        if status is not None and "hints" not in status.constructor_args:
            said = {**status.constructor_args, "hints": messages.hints(session)}
            updates = updates | {self.parts.status: gr.HTML(**said)}
        known = updates.get(self.parts.keeper)
        props = {} if known is None else dict(known.constructor_args)
        stamp = {"count": next(self._changes), "worth": self.is_worth_keeping(session)}
        return updates | {self.parts.keeper: gr.HTML(**props, stamp=stamp)}

    @staticmethod
    def is_worth_keeping(session: Session) -> bool:
        """Whether anything was done that a person could miss."""
        return session.is_touched or bool(session.past or session.future)

    def busy(self, session: Session, key: str) -> Updates:
        """The page while a drag runs: nothing can be changed, but it can be stopped."""
        holds = session.mask is not None and self.settings_of(session)["mask_hold"] == "exact"
        if key:
            # Quickly: a person is pulling already. The canvas itself keeps everything else from being pressed.
            held = gr.HTML(busy=True, live=None, held=key, holds=holds)
            return {self.parts.canvas: held} | self.say(messages.LIVE, "run")
        return {self.parts.session: session} | self.lock(session, holds=holds) | self.say(messages.STARTING, "run")

    def lock(self, session: Session, *, holds: bool = False) -> Updates:
        """Nothing can be changed, but what runs can be stopped.

        Args:
            holds: pictures that come are drawn inside the mask alone.
        """
        off = {part: gr.update(interactive=False) for part in self.parts.locked()}
        canvas = gr.HTML(value=canvas_value(session), busy=True, live=None, holds=holds)
        return {self.parts.canvas: canvas, self.parts.stop: gr.update(interactive=True)} | off

    def unlock(self, session: Session) -> Updates:
        """What `lock` has switched off is on again, on the same picture."""
        return {self.parts.canvas: gr.HTML(busy=False)} | self.enable(session)

    def enable(self, session: Session, *, after_a_drag: bool = True) -> Updates:
        """What can be pressed on a page at rest; all of it after a drag, else only what may have changed."""
        on = {part: gr.update(interactive=True) for part in self.parts.locked() if after_a_drag}
        return on | {part: gr.update(interactive=when(session)) for part, when in self.parts.conditional()}

    def say(
        self,
        text: str,
        kind: str = "",
        *,
        aloud: bool = True,
        hints: Mapping[str, str] | None = None,
        done: float = 0.0,
    ) -> Updates:
        """The status line.

        Args:
            kind: of news; "": what to do next, which is another sentence with each tool of the canvas.
            aloud: False: seen only, as what changes many times a second is no use read out.
            hints: those sentences, where they are not what `messages.hints` has for the session.
            done: how much of what is under way, 0 to 1: a bar along the lower edge.
        """
        props: dict[str, Any] = {"text": text, "kind": kind, "spoken": "polite" if aloud else "off"}
        props["percent"] = round(100 * min(max(done, 0.0), 1.0))
        if hints is not None:
            props["hints"] = dict(hints)
        return {self.parts.status: gr.HTML(**props, said=next(self._changes))}

    def whole_model(self, session: Session) -> Updates:
        """The picture with everything that depends on its model."""
        return self.show(session) | self.show_model(session) | self.controls(session) | self.model_settings(session)

    def show_model(self, session: Session | None) -> Updates:
        """The model on the canvas is the chosen one, and none is on offer."""
        return self.name_model(session) | {self.parts.offered: "", self.parts.offer: gr.update(visible=False)}

    def name_model(self, session: Session | None) -> Updates:
        """The model on the canvas is the chosen one."""
        name = self.model_of(session)
        titles = {opened: title for title, opened in session.opened} if session else {}
        title = titles.get(name) or self.models.find(name).title
        return {
            self.parts.model: gr.HTML(value=name, title=title, shown=name),
            self.parts.photo: gr.HTML(model=name),
        }

    def offer(self, model: Model, terms: Terms, *, asking: bool = False) -> Updates:
        """A model to download, below the one on the canvas; ``asking``: its size is not known yet."""
        can = not terms.by_hand
        return {
            self.parts.offered: model.name,
            self.parts.offer: gr.update(visible=True),
            self.parts.terms: gr.HTML(text=offer(model.title, terms, asking=asking)),
            self.parts.bar: gr.HTML(text="", percent=0, visible=False),
            self.parts.download: gr.update(visible=can, interactive=can),
            self.parts.not_now: gr.update(value="Not now" if can else "Close"),
        }

    def controls(self, session: Session) -> Updates:
        """The controls that say what the picture on the screen began with.

        Settings are not among them: one that was chosen and not used yet is known to the page alone, and stays.
        """
        model = self.models.find(session.model)
        classes = [(f"class {i}", i) for i in range(self.models.load(session.model).c_dim)]
        presets = {
            button: gr.update(value=preset.title if preset else "", visible=preset is not None, interactive=True)
            for button, preset in zip_longest(self.parts.presets, model.presets[: len(self.parts.presets)])
        }
        return presets | {
            self.parts.preset_row: gr.update(visible=bool(model.presets)),
            self.parts.truncation: gr.update(value=self.truncation_of(session), interactive=True),
            self.parts.seed: gr.update(value=session.seed, interactive=True),
            self.parts.label: gr.Dropdown(classes, value=session.label, visible=bool(classes), interactive=True),
        }

    def settings_of(self, session: Session) -> dict[str, Any]:
        """Every setting that the page offers, as it was last chosen or else as it suits the model."""
        shown = shown_settings(session, self.models.find(session.model).settings)
        return {**shown, "space": session.space}

    def model_settings(self, session: Session) -> Updates:
        """The settings with another model: what suits it, and how large its pictures are."""
        usual = session.set_settings({}).set_space("w+")
        props: dict[str, Any] = {"suited": self.settings_of(usual), "longer": max(session.image_size)}
        return {self.parts.settings: gr.HTML(**props, value=self.settings_of(session))}  # type: ignore[arg-type]


def notice(show: Callable[..., Any], text: str, title: str) -> None:
    """Say something in a corner of the page, with ``gr.Info`` or ``gr.Warning``, which take a message for HTML."""
    show(html.escape(text, quote=False), title=title)
