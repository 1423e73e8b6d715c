"""The components of the page: one table says what each is, where it stands and when it can be used.

To add a button: a line here, its handler in ``handlers/``, which event calls it in ``events.py``, and its words, if it
says something, in ``messages.py``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Generic, TypeVar, overload

import gradio as gr

from draggan.checkpoints.catalogue import SUFFIXES
from draggan.config import Limits
from draggan.engine.models import Models
from draggan.export import can_write_mp4
from draggan.provenance.consent import MODEL, PHOTO
from draggan.provenance.terms import responsible_use
from draggan.session import Session
from draggan.ui import messages, terms_of_use, text
from draggan.ui.browser_storage.component import keeper
from draggan.ui.canvas.component import drag_canvas, history_strip, points_list
from draggan.ui.consent_box import consent_box
from draggan.ui.file_check.component import file_check
from draggan.ui.help_film.component import help_film
from draggan.ui.model_picker.component import model_picker
from draggan.ui.photo_box.component import photo_box
from draggan.ui.settings_box.component import settings_box
from draggan.ui.start_pictures.component import start_pictures
from draggan.ui.work_file.component import work_opener

__all__ = ["FILMS", "PICTURES", "SPEEDS", "TIMES", "Needs", "Part", "Parts"]

T = TypeVar("T")

TIMES = (1, 2, 4)
"""How many times as large as it is drawn a picture can be saved."""
PICTURES = ("PNG", "JPEG", "WebP")
FILMS = ("MP4", "GIF", "WebP")
"""As what pictures and films are saved; the first one that can be written here is chosen at the start."""
SPEEDS = {"slow": 0.5, "normal": 1.0, "fast": 2.0}
"""Of a film."""
_FILE_OPTIONS = ("picture file", "film file", "both files")  # places of what is chosen for files
_PRESETS = 6  # examples that there is room for


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What components are made from.

    Attributes:
        models: what the list offers.
        steer: hears of the pointer during a live drag; see `drag_canvas`.
        limits: what visitors may have.
        local: nobody but this machine's own user can reach the page.
    """

    models: Models
    steer: Callable[[Any], Awaitable[Any]] | None = None
    limits: Limits = Limits()
    local: bool = False


class Part(Generic[T]):
    """A line of the table: a component, or several alike. Of `Parts`, the attribute is what was made.

    Args:
        place: the row or group it stands in.
        make: makes it.
        locked: whether it is off while a drag runs.
        when: whether it can be used on a page at rest; None: always.
    """

    def __init__(
        self,
        place: str,
        make: Callable[[Needs], T],
        *,
        locked: bool = False,
        when: Callable[[Session], bool] | None = None,
    ) -> None:
        self.place, self.make, self.locked, self.when = place, make, locked, when
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, parts: None, owner: type) -> Part[T]: ...

    @overload
    def __get__(self, parts: Parts, owner: type) -> T: ...

    def __get__(self, parts: Parts | None, owner: type) -> Part[T] | T:
        return self if parts is None else parts.made[self.name]


def _button(label: str, **look: Any) -> Callable[[Needs], gr.Button]:
    return lambda needs: gr.Button(label, **look)


def _small(label: str, name: str) -> Callable[[Needs], gr.Button]:
    return _button(label, size="md", min_width=40, interactive=False, elem_id=f"dg-{name}")


def _save(label: str, name: str, *, interactive: bool = True) -> Callable[[Needs], gr.Button]:
    return _button(label, size="md", min_width=80, interactive=interactive, elem_id=f"dg-{name}")


def _films() -> tuple[str, ...]:
    return FILMS if can_write_mp4() else tuple(form for form in FILMS if form != "MP4")


def _film_format(needs: Needs) -> gr.Radio:
    films = _films()
    missing = None if films == FILMS else messages.NO_MP4
    return gr.Radio([*films], value=films[0], label="Film", info=missing, elem_id="dg-film-format")


def _is_of_photo(session: Session) -> bool:
    return session.recipe.is_of_photo


def _has_film(session: Session) -> bool:
    return bool(session.frames)


def _check(label: str, name: str, *, value: bool = False) -> Callable[[Needs], gr.Checkbox]:
    return lambda needs: gr.Checkbox(value, label=label, min_width=130, container=False, elem_id=f"dg-{name}")


def _can_start(session: Session) -> bool:
    return bool(session.active_numbers) and session.pending is None and not session.is_there


def _truncation(needs: Needs) -> gr.Slider:
    return gr.Slider(
        *(0, 1, needs.models.listed()[0].truncation),
        step=0.05,
        label="Truncation",
        info="0: the average picture. 1: full variety, more failures.",
        elem_id="dg-truncation",
    )


def _times(needs: Needs) -> gr.Radio:
    choices = [(f"{n} x", n) for n in TIMES]
    return gr.Radio(choices, value=1, label="Size", elem_id="dg-times")


def _speed(needs: Needs) -> gr.Radio:
    choices = [(name.capitalize(), speed) for name, speed in SPEEDS.items()]
    return gr.Radio(choices, value=SPEEDS["normal"], label="Speed", elem_id="dg-speed")


def _seed(needs: Needs) -> gr.Number:
    """That of the first example: a picture chosen by people, and trying the example then begins with what is seen."""
    presets = needs.models.listed()[0].presets
    return gr.Number(presets[0].seed if presets else 0, label="Seed", elem_id="dg-seed")


def _preset_row(needs: Needs) -> gr.Row:
    return gr.Row(visible=bool(needs.models.listed()[0].presets), elem_id="dg-presets")


def _presets(needs: Needs) -> tuple[gr.Button, ...]:
    """Those of the first model are there at once: when they can be pressed, nothing moves."""
    titles = [preset.title for preset in needs.models.listed()[0].presets[:_PRESETS]]
    return tuple(
        gr.Button(title, size="sm", min_width=40, interactive=False, visible=bool(title), elem_id=f"dg-preset-{i}")
        for i, title in zip_longest(range(_PRESETS), titles, fillvalue="")
    )


def _path(needs: Needs) -> gr.Textbox:
    return gr.Textbox(
        label="Or type a path on this machine and press Enter",
        placeholder="~/weights/cats.pkl",
        visible=needs.local,
        elem_id="dg-path",
    )


class Parts:
    """The components that handlers update, made where this is made: within ``gr.Blocks``.

    Args:
        needs: what they are made from.
    """

    session = Part("nowhere", lambda _: gr.State(None, time_to_live=6 * 3600))
    offered = Part("nowhere", lambda _: gr.State(""))
    asked = Part("nowhere", lambda _: gr.State(None))
    # What a drag under way has reached.
    progress = Part("nowhere", lambda _: gr.State(None, time_to_live=6 * 3600))

    canvas = Part("picture", lambda needs: drag_canvas(needs.steer, elem_id="dg-canvas"))
    # Above the status line: what it offers must be in the window.
    keeper = Part("said", lambda _: keeper(elem_id="dg-keeper"))
    status = Part("said", lambda _: text.status_line(messages.LOADING, elem_id="dg-status"))
    start = Part(
        "run",
        _button("Start", variant="primary", interactive=False, elem_id="dg-start", min_width=110),
        locked=True,
        when=_can_start,
    )
    stop = Part(
        "run",
        _button("Stop", variant="stop", interactive=False, elem_id="dg-stop", min_width=110),
        when=lambda session: False,  # while a drag runs, and then only
    )
    undo = Part("history", _small("Undo", "undo"), locked=True, when=lambda session: session.can_undo)
    redo = Part("history", _small("Redo", "redo"), locked=True, when=lambda session: session.can_redo)
    reset = Part("history", _small("Reset", "reset"), locked=True, when=lambda session: session.is_edited)

    model = Part("model", lambda needs: model_picker(needs.models.listed(), elem_id="dg-model"))
    offer = Part("offer", lambda _: gr.Group(visible=False, elem_id="dg-offer"))
    terms = Part("terms", lambda _: text.text_block(elem_id="dg-terms"))
    bar = Part("terms", lambda _: text.progress_bar(visible=False, elem_id="dg-bar"))
    not_now = Part("answers", _button("Not now", size="md", elem_id="dg-not-now", min_width=100))
    download = Part("answers", _button("Download", variant="primary", size="md", elem_id="dg-download", min_width=100))
    preset_row = Part("preset row", _preset_row)
    presets = Part("presets", _presets, locked=True)
    label = Part("class", lambda _: gr.Dropdown([], label="Class", visible=False, elem_id="dg-class"), locked=True)
    starts = Part("starts", lambda _: start_pictures(elem_id="dg-starts"))
    seed = Part("seed", _seed, locked=True)
    random = Part("seed", _button("Random", size="md", elem_id="dg-random", min_width=110), locked=True)
    truncation = Part("truncation", _truncation, locked=True)

    settings = Part("settings", lambda _: settings_box(elem_id="dg-settings"))

    consent = Part("files", lambda _: consent_box(f"To upload one: {MODEL.words}", MODEL, elem_id="dg-consent"))
    upload = Part(
        "files",
        lambda _: gr.UploadButton("Upload …", file_types=[*SUFFIXES], size="md", visible=False, elem_id="dg-upload"),
        locked=True,
    )
    path = Part("files", _path, locked=True)
    photo_consent = Part("photo", lambda _: consent_box(PHOTO.words, PHOTO, elem_id="dg-photo-consent"))
    photo = Part("photo", lambda needs: photo_box(needs.limits, elem_id="dg-photo"))

    save = Part("saves", _save(f"Save {PICTURES[0]}", "save"), locked=True)
    save_film = Part(
        "saves",
        lambda needs: _save(f"Save {_films()[0]}", "film", interactive=False)(needs),
        locked=True,
        when=_has_film,
    )
    copy = Part("saves", _save("Copy", "copy"), locked=True)
    picture_format = Part(
        "picture file", lambda _: gr.Radio([*PICTURES], value=PICTURES[0], label="Picture", elem_id="dg-picture-format")
    )
    compared = Part("picture file", _check("Before and after", "compared"))
    pasted = Part("picture file", _check("In the whole photo", "pasted", value=True), when=_is_of_photo)
    film_format = Part("film file", _film_format)
    speed = Part("film file", _speed)
    smooth = Part("film file", _check("Smooth film", "smooth", value=True))
    back = Part("film file", _check("Film there and back", "back"))
    times = Part("both files", _times)
    dots = Part("both files", _check("With the points", "dots"))
    save_recipe = Part(
        "recipe file",
        _save("Save recipe (JSON)", "recipe"),
        locked=True,
        when=lambda session: not _is_of_photo(session),
    )
    save_session = Part("opening", _save("Save session", "save-session"), locked=True)
    opener = Part("opening", lambda needs: work_opener(needs.limits, elem_id="dg-opener"))
    file = Part("file", lambda _: gr.DownloadButton("Picture", visible="hidden", elem_id="dg-file"))

    film = Part("help", lambda _: help_film(elem_id="dg-help-film"))
    check = Part("check", lambda needs: file_check(needs.limits, elem_id="dg-check"))

    def __init__(self, needs: Needs) -> None:
        self.made: dict[str, Any] = {}
        self._needs = needs
        self._put("nowhere")
        with gr.Row(elem_id="dg-page"):
            with gr.Column(scale=7, min_width=340, elem_id="dg-left"):
                self._picture()
            with gr.Row(elem_id="dg-right"):
                with gr.Column(min_width=300, elem_id="dg-choose"):
                    self._choices()
                with gr.Column(min_width=300, elem_id="dg-work-on"):
                    self._work()
        terms_of_use.footer(elem_id="dg-foot")

    def _picture(self) -> None:
        with gr.Row(elem_id="dg-head"):
            gr.Markdown(messages.TITLE, elem_id="dg-title")
            self._put("history")
        self._put("picture")
        with gr.Row(elem_id="dg-run", elem_classes="dg-row"):
            self._put("run")
        # Last: however long a sentence is, it moves nothing that is pressed.
        self._put("said")

    def _choices(self) -> None:
        """What there is to work on."""
        terms_of_use.notice(messages.TERMS, elem_id="dg-notice")
        with gr.Group():
            self._put("model")
            with self._put("offer"):
                self._put("terms")
                with gr.Row():
                    self._put("answers")
            with self._put("preset row"):
                gr.HTML("Examples", elem_id="dg-presets-title", apply_default_css=False)
                self._put("presets")
            self._put("starts")
            self._put("class")
            with gr.Row(elem_id="dg-seed-row"):
                self._put("seed")
            self._put("truncation")
        with gr.Accordion("Your photo", open=False, elem_id="dg-photo-box"):
            self._put("photo")
        with gr.Accordion("Open a model file", open=False):
            gr.Markdown(messages.FILES)
            self._put("files")

    def _work(self) -> None:
        """What comes of it. Files first: whatever appears below, their buttons stay where they are."""
        with gr.Group(elem_id="dg-saving"):
            with gr.Row(elem_id="dg-saves"):
                self._put("saves")
            terms_of_use.at_first_save(messages.FIRST_SAVE, elem_id="dg-first-save")
            with gr.Accordion("File options", open=False, elem_id="dg-file-options"):
                for place in (*_FILE_OPTIONS, "recipe file"):
                    with gr.Row(elem_classes="dg-file-rows"):
                        self._put(place)
        with gr.Row(elem_id="dg-work", equal_height=True):
            self._put("opening")
        self._put("file")
        with gr.Group():
            history_strip(elem_id="dg-story-box")
        with gr.Group():
            points_list(elem_id="dg-points-box")
        with gr.Group():
            self._put("settings")
        with gr.Accordion("Check a file", open=False, elem_id="dg-checking"):
            gr.Markdown(messages.CHECK)
            self._put("check")
        with gr.Accordion("Help", open=False):
            self._put("help")
            gr.Markdown(messages.HELP)
        with gr.Accordion("Responsible use", open=False, elem_id=terms_of_use.TEXT_ID):
            gr.Markdown(responsible_use())

    def _put(self, place: str) -> Any:
        """Make the parts of a place here, in the order of the table; the last one is returned."""
        for part in _table():
            if part.place == place:
                self.made[part.name] = part.make(self._needs)
        return next(reversed(self.made.values()))

    def all(self) -> list[Any]:
        """Every component, each of several alike on its own."""
        return [component for part in _table() for component in self._components(part)]

    def locked(self) -> list[Any]:
        """Those that are off while a drag runs."""
        return [component for part in _table() if part.locked for component in self._components(part)]

    def file_options(self) -> list[Any]:
        """What is chosen for files that are saved."""
        return [self.made[part.name] for part in _table() if part.place in _FILE_OPTIONS]

    def conditional(self) -> Iterator[tuple[Any, Callable[[Session], bool]]]:
        """Those that can be used only sometimes, each with when."""
        for part in _table():
            if part.when is not None:
                yield from ((component, part.when) for component in self._components(part))

    def _components(self, part: Part[Any]) -> tuple[Any, ...]:
        made = self.made[part.name]
        return made if isinstance(made, tuple) else (made,)


def _table() -> list[Part[Any]]:
    return [part for part in vars(Parts).values() if isinstance(part, Part)]
