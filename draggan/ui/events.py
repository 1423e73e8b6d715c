"""Which event of the page calls which handler."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial, wraps
from types import MethodType
from typing import Any

import gradio as gr

from draggan.ui import messages
from draggan.ui.browser_storage.component import READ
from draggan.ui.errors import PageError, SessionExpired
from draggan.ui.handlers import (
    checking,
    consenting,
    downloads,
    dragging,
    editing,
    helping,
    keeping,
    models,
    opening,
    photos,
    pictures,
    saving,
    starting,
)
from draggan.ui.page import Page, Updates
from draggan.ui.terms_of_use import SAVED

__all__ = ["wire"]

# Callable by name, for tests and tinkerers; what programs are meant to call is in api.py.
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "undocumented"}
# Of what is chosen while the first choice is under way, the last counts: it is what the control shows.
_LAST: dict[str, Any] = {"trigger_mode": "always_last", **_QUIET}
# Every one of them, in their order.
_EVERY: dict[str, Any] = {"trigger_mode": "multiple", **_QUIET}


# Where a saved file is, from where the page itself was fetched: what Gradio takes for the server's address is, behind a
# proxy that does not pass its own on, one that leads out of the page.
_PLACE = """
    if (!file?.path) return;
    const path = file.path.split('/').map(encodeURIComponent).join('/');
    const address = `${location.origin}${location.pathname.replace(/\\/+$/, '')}/gradio_api/file=${path}`;
"""
_FETCH = f"""(file) => {{
    {_PLACE}
    window.dispatchEvent(new Event('{SAVED}'));
    const link = document.createElement('a');
    link.href = address;
    link.download = file.orig_name || 'picture';
    link.click();
}}"""
# Pages that are not served from this machine or over https have no clipboard, nor have some browsers for pictures.
_COPY = f"""async (file) => {{
    {_PLACE}
    try {{
        const picture = fetch(address).then((answer) => answer.blob());
        await navigator.clipboard.write([new ClipboardItem({{ 'image/png': picture }})]);
        window.dispatchEvent(new Event('{SAVED}'));
    }} catch {{
        const detail = {{ text: {json.dumps(messages.NO_CLIPBOARD)}, kind: 'note' }};
        document.querySelector('.dg-status').dispatchEvent(new CustomEvent('draggan-say', {{ detail }}));
    }}
}}"""


class _Wiring:
    """Binds handlers to a page, in the three ways there are; and what they may write to.

    Attributes:
        outputs: every component but the file to save, which only saving writes to.
        drawn: the session, and what the canvas shows.
    """

    def __init__(self, page: Page) -> None:
        self.page, parts = page, page.parts
        self.outputs = [part for part in parts.all() if part is not parts.file]
        self.drawn = [parts.session, parts.canvas]

    def at_once(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """The handler as it is."""
        # A method, of which Gradio finds the types; of a partial function it does not.
        noting = handler if handler.__name__ in saving.__all__ else _noting(handler)
        return MethodType(noting, self.page)

    def queued(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """The handler, made to wait until its tab is free."""
        return self.page.tabs.serialized(self.at_once(handler))

    def at_rest(self, handler: Callable[..., Any], **chosen: Any) -> Callable[..., Any]:
        """That, and refused while a drag runs in the tab."""
        return dragging.at_rest(self.page, partial(_noting(handler), self.page, **chosen))


def _noting(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The handler, with the news for the browser: the session has changed, or is no longer there."""

    @wraps(handler)
    def answer(page: Page, *args: Any, **kwargs: Any) -> Any:
        try:
            updates = handler(page, *args, **kwargs)
        except PageError as error:
            return _expired(page, error)
        return updates if updates is None else page.note(updates)

    @wraps(handler)
    def follow(page: Page, *args: Any, **kwargs: Any) -> Iterator[Updates]:
        with closing(handler(page, *args, **kwargs)) as all_updates:
            try:
                for updates in all_updates:
                    yield page.note(updates)
            except PageError as error:
                yield _expired(page, error)

    return follow if inspect.isgeneratorfunction(handler) else answer


def _expired(page: Page, error: PageError) -> Updates:
    """The page loads itself again where its session is no longer there; any other error goes on."""
    if not isinstance(error.__cause__, SessionExpired):
        raise error
    return page.say(error.text, "bad") | {page.parts.keeper: gr.HTML(expired=True)}


def wire(demo: gr.Blocks, page: Page, *, local: bool) -> None:
    """Connect everything; ``local``: models may be opened by a path on this machine."""
    wiring, parts = _Wiring(page), page.parts
    first = [parts.model, parts.seed, parts.truncation, parts.keeper]
    demo.load(wiring.at_once(models.open_page), first, wiring.outputs, api_name="open", js=READ, **_QUIET)
    demo.unload(wiring.at_once(dragging.close))
    _wire_models(page, wiring, local=local)
    _wire_pictures(page, wiring)
    _wire_editing(page, wiring)
    _wire_dragging(page, wiring)
    _wire_keeping(page, wiring)
    _wire_photos(page, wiring)
    _wire_saving(page, wiring)
    _wire_file_options(demo, page)
    parts.film.watch(wiring.at_once(helping.watch), None, [parts.film], api_name="watch", **_LAST)
    parts.check.check(wiring.at_once(checking.check), [parts.check], [parts.check], api_name="check", **_LAST)


def _wire_models(page: Page, wiring: _Wiring, *, local: bool) -> None:
    parts, outputs = page.parts, wiring.outputs
    # Each with what was chosen: the answer to the first says in the list what is on the canvas.
    chosen = [parts.session, parts.model, parts.seed, parts.offered]
    # Not in the tab's turn: it changes no session.
    listing = wiring.at_once(models.list_models)
    parts.model.list_models(listing, [parts.session], [parts.model], api_name="list_models", **_LAST)
    offered = parts.model.choose(wiring.at_rest(models.choose_model), chosen, outputs, api_name="model", **_EVERY)
    # Apart, so that another one can be chosen without waiting for the server.
    ask, tell = wiring.at_once(downloads.ask), wiring.at_once(downloads.tell)
    asked = offered.success(ask, [parts.offered], [parts.asked], api_name="ask", **_QUIET)
    asked.success(tell, [parts.offered, parts.asked], [parts.asked, parts.terms], api_name="tell", **_QUIET)
    parts.not_now.click(wiring.queued(downloads.not_now), [parts.session], outputs, api_name="not_now", **_QUIET)
    fetched = [parts.session, parts.offered]
    parts.download.click(wiring.queued(downloads.download), fetched, outputs, api_name="download", **_QUIET)
    # Not in the tab's turn: it changes no session.
    agreed = [parts.consent, parts.upload, parts.status]
    parts.consent.agree(wiring.at_once(consenting.agree), [parts.consent], agreed, api_name="agree", **_EVERY)
    opened = wiring.queued(models.open_file)
    parts.upload.upload(opened, [parts.session, parts.upload], outputs, api_name="upload", **_QUIET)
    sent = [parts.session, parts.opener]
    parts.opener.open_work(wiring.at_rest(opening.open_work), sent, outputs, api_name="open_work", **_EVERY)
    if local:
        typed = wiring.queued(models.open_path)
        parts.path.submit(typed, [parts.session, parts.path], outputs, api_name="path", **_QUIET)


def _wire_pictures(page: Page, wiring: _Wiring) -> None:
    parts, outputs = page.parts, wiring.outputs
    # Not with every key: a seed of four digits would be four pictures.
    typed = [parts.session, parts.seed]
    parts.seed.submit(wiring.queued(pictures.set_seed), typed, outputs, api_name="seed", **_LAST)
    left = [*typed, parts.canvas]
    parts.seed.blur(wiring.queued(pictures.leave_seed), left, outputs, api_name="leave_seed", **_LAST)
    gr.on(
        # The keys and the mouse; then the arrow that puts the first value back.
        [parts.truncation.input, parts.truncation.release],
        wiring.at_rest(pictures.set_truncation),
        [parts.session, parts.truncation],
        outputs,
        api_name="truncation",
        # In the box beside the slider any number can be typed; it shows the nearest possible one when it is left.
        js="(session, psi) => [session, Math.min(Math.max(psi, 0), 1)]",
        **_LAST,
    )
    labelled = [parts.session, parts.label]
    parts.label.input(wiring.at_rest(pictures.set_label), labelled, outputs, api_name="class", **_LAST)
    parts.random.click(wiring.at_rest(pictures.random_picture), [parts.session], outputs, api_name="random", **_QUIET)
    about, starts = [parts.session, parts.starts], parts.starts
    # Not in the tab's turn: they change no session.
    starts.suggest(wiring.at_once(starting.suggest), about, [starts], api_name="suggest", **_LAST)
    starts.favour(wiring.at_once(starting.favour), about, [starts], api_name="favour", **_LAST)
    starts.take_start(wiring.at_rest(starting.take_start), about, outputs, api_name="take_start", **_LAST)
    opened = wiring.at_rest(starting.open_favourite)
    starts.open_favourite(opened, about, outputs, api_name="open_favourite", **_LAST)
    for i, button in enumerate(parts.presets):
        try_one = wiring.at_rest(pictures.try_preset, number=i)
        button.click(try_one, [parts.session], outputs, api_name=f"preset_{i}", **_QUIET)


def _wire_editing(page: Page, wiring: _Wiring) -> None:
    parts, drawn, outputs = page.parts, wiring.drawn, wiring.outputs
    parts.canvas.edit(wiring.queued(editing.edit), drawn, outputs, api_name="edit", **_LAST)
    parts.canvas.look(wiring.queued(editing.look), drawn, [parts.canvas], api_name="look", **_LAST)
    parts.canvas.see_whole(wiring.queued(photos.whole), drawn, [parts.canvas, parts.status], api_name="whole", **_LAST)
    parts.canvas.go_to(wiring.at_rest(editing.go_to), drawn, outputs, api_name="go_to", **_EVERY)
    parts.canvas.forget(wiring.at_rest(editing.forget), drawn, outputs, api_name="forget", **_EVERY)
    parts.canvas.go_on(wiring.at_rest(editing.go_on), drawn, outputs, api_name="go_on", **_EVERY)
    for button, handler in (
        (parts.undo, editing.undo),
        (parts.redo, editing.redo),
        (parts.reset, editing.reset),
    ):
        button.click(wiring.at_rest(handler), drawn, outputs, api_name=handler.__name__, **_EVERY)


def _wire_dragging(page: Page, wiring: _Wiring) -> None:
    parts, outputs = page.parts, wiring.outputs
    changed, again = wiring.at_rest(dragging.set_settings), wiring.at_rest(dragging.reset_settings)
    parts.settings.settings(changed, [parts.session, parts.settings], outputs, api_name="settings", **_LAST)
    parts.settings.reset_settings(again, [parts.session], outputs, api_name="reset_settings", **_QUIET)
    dragged = [*wiring.drawn, parts.settings]
    parts.start.click(wiring.queued(dragging.start), dragged, outputs, api_name="start", **_QUIET)
    # As few as can be: a live drag is to begin and end quickly. The pictures on the way go past them.
    few = [
        *wiring.drawn,
        parts.status,
        parts.progress,
        parts.keeper,
        parts.starts,
        parts.settings,
        *(part for part, _ in parts.conditional()),
    ]
    parts.canvas.pull(wiring.queued(dragging.follow_pointer), dragged, few, api_name="pull", **_EVERY)
    # Outside the queue: it must get through while the drag runs.
    parts.stop.click(wiring.at_once(dragging.stop), None, None, api_name="stop", queue=False, **_QUIET)


def _wire_keeping(page: Page, wiring: _Wiring) -> None:
    parts = page.parts
    known = [parts.session, parts.progress, parts.keeper, parts.settings]
    # A drag may run meanwhile.
    parts.keeper.keep(wiring.at_once(keeping.keep), known, [parts.keeper], api_name="keep", **_LAST)


def _wire_photos(page: Page, wiring: _Wiring) -> None:
    parts = page.parts
    # Not in the tab's turn: they change no session.
    agreed, sent = [parts.photo_consent, parts.photo, parts.status, parts.keeper], [parts.session, parts.photo]
    agree = wiring.at_once(consenting.agree_photo)
    parts.photo_consent.agree(agree, [parts.photo_consent], agreed, api_name="agree_photo", **_EVERY)
    told = [parts.photo, parts.status]
    parts.photo.photo_sent(wiring.at_once(photos.photo_sent), sent, told, api_name="photo_sent", **_LAST)
    parts.photo.aim(wiring.at_once(photos.aim), sent, [parts.photo], api_name="aim", **_LAST)
    # Apart from the others: it takes some seconds.
    foresee = wiring.at_once(photos.foresee)
    parts.photo.foresee(foresee, sent, [parts.photo], api_name="foresee", **_LAST)
    open_photo = wiring.queued(photos.open_photo)
    opened = parts.photo.open_photo(open_photo, sent, wiring.outputs, api_name="open_photo", **_QUIET)
    # It may have chosen a format in a panel that has not been opened yet, which tells of no change.
    keep = _keep(parts.picture_format, "sessionStorage")
    opened.then(None, [parts.picture_format], [parts.save], js=keep, api_visibility="private")
    # Outside the queue, as Stop is.
    parts.photo.enough(wiring.at_once(dragging.stop), None, None, api_name="enough", queue=False, **_QUIET)
    parts.photo.cancel_photo(
        wiring.at_once(photos.cancel_photo), None, None, api_name="cancel_photo", queue=False, **_QUIET
    )


def _wire_saving(page: Page, wiring: _Wiring) -> None:
    parts, drawn = page.parts, wiring.drawn
    still, moving = (
        [parts.times, parts.compared, parts.dots, parts.pasted],
        [parts.smooth, parts.back, parts.dots, parts.speed],
    )
    for button, handler, inputs, then in (
        (parts.save, saving.save, [*drawn, parts.picture_format, *still], _FETCH),
        (parts.copy, saving.copy, [*drawn, *still], _COPY),
        (parts.save_film, saving.save_film, [*drawn, parts.film_format, parts.times, *moving], _FETCH),
        (parts.save_session, saving.save_session, drawn, _FETCH),
        (parts.save_recipe, saving.save_recipe, drawn, _FETCH),
    ):
        # While a film is made nothing else can be done, which all buttons show.
        outputs = [parts.file, *wiring.outputs] if button is parts.save_film else [parts.file, parts.status]
        saved = button.click(wiring.queued(handler), inputs, outputs, api_name=handler.__name__, **_QUIET)
        saved.success(None, [parts.file], None, js=then, api_visibility="private")


def _wire_file_options(demo: gr.Blocks, page: Page) -> None:
    """How files are saved is kept in the browser, and said on the buttons."""
    parts = page.parts
    labels = {parts.picture_format: parts.save, parts.film_format: parts.save_film}
    options = parts.file_options()
    for option in options:
        label = [labels[option]] if option in labels else None
        option.change(None, [option], label, js=_keep(option, "sessionStorage"), api_visibility="private")
        # What a person chose, and not what suits a photo.
        option.input(None, [option], None, js=_keep(option, "localStorage"), api_visibility="private")
    allowed = [
        [option.elem_id, [value for _, value in option.choices] if isinstance(option, gr.Radio) else [True, False]]
        for option in options
    ]
    kept = f"(...values) => window.dragganFileOptions.kept({json.dumps(allowed)}, values)"
    demo.load(None, options, [*options, *labels.values()], js=kept, api_visibility="private")


def _keep(option: Any, storage: str) -> str:
    """JavaScript that keeps what one of the file options is; returns what is on the button of a format."""
    return f"(value) => window.dragganFileOptions.keep('{storage}', '{option.elem_id}', value)"
