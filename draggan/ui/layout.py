"""The page: its components, and which of them calls which handler."""

from __future__ import annotations

import functools
import inspect
import math
from pathlib import Path
from typing import Any

import gradio as gr

from draggan.checkpoints.catalogue import SUFFIXES
from draggan.config import DragConfig, describe
from draggan.ui import api, texts
from draggan.ui.canvas import canvas
from draggan.ui.handlers import SETTINGS, Handlers, Parts
from draggan.ui.models import Models
from draggan.ui.running import Drags, Pulls

__all__ = ["build", "launch_options"]

_PRESETS = 6  # examples that there is room for

_HELP = """
**Points.** Click a point of the picture, then where it should go; or press, pull and release; then Start. A dot can be
moved with the mouse. **Live.** Take hold of the picture and pull: it follows. **Mask.** Paint what may change; the rest
is held still. Without a mask everything may change. **Save GIF**, **Save WebP.** The way from the starting picture
through every drag and pull to this one.

| key | |
|---|---|
| `Ctrl Z` / `Ctrl Shift Z` | undo / redo: points, mask, drags |
| `Backspace` | remove the last point |
| `Esc` | drop a point that has no target; stop a drag |
| arrows, `Enter` | on the picture: move a cross, set a point |
"""


# The footer is not Gradio's to style with our sheet. Where it has no room for the first link, the dot after it stays.
_HEAD = "<style>@media (max-width: 640px) { footer .divider { display: none !important; } }</style>"
_STATUS = '<p class="dg-status" data-kind="{{kind}}" role="status" aria-live="{{spoken}}">{{value}}</p>'
_BAR = """<div class="dg-bar"><div style="width: {{percent}}%"></div></div><p>{{value}}</p>"""


def build(models: Models, *, drags: int = 8, local: bool = False) -> gr.Blocks:
    """The page.

    Args:
        models: what it offers; the first one is shown at the start.
        drags: how many may run at the same time, over all visitors; the next ones wait.
        local: nobody but this machine's own user can reach the page, so that it may offer to open any file by its path.
    """
    with gr.Blocks(title="DragGAN", analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400)) as demo:
        places, pulls = Drags(drags), Pulls()
        parts = _components(models, pulls, local=local)
        _wire(demo, parts, Handlers(parts, models, places, pulls), local=local)
        api.register(models, places)
    # Twice as many handlers as drags, so that those who wait for a place do not keep others from clicking.
    return demo.queue(max_size=256, default_concurrency_limit=2 * drags)


def launch_options() -> dict[str, Any]:
    """What ``build(...).launch`` needs besides the address: style, limits, and nothing recorded or fetched."""
    options = {
        "theme": _theme(),
        "css_paths": [Path(__file__).parent / "style.css"],
        "footer_links": ["api", "settings"],
        "head": _HEAD,
        "max_file_size": "2gb",
        "run_history": False,
    }
    # run_history came with a later Gradio than our oldest.
    known = inspect.signature(gr.Blocks.launch).parameters
    return {name: value for name, value in options.items() if name in known}


def _theme() -> gr.themes.Base:
    """Fonts that every system has, so that nothing is fetched; main buttons dark enough for white letters."""
    theme = gr.themes.Default(
        primary_hue=gr.themes.colors.indigo,
        neutral_hue=gr.themes.colors.slate,
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"],
    )
    return theme.set(
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
    )


def _components(models: Models, pulls: Pulls | None = None, *, local: bool = False) -> Parts:
    listed = models.listed()
    session = gr.State(None, time_to_live=6 * 3600)
    with gr.Row(elem_id="dg-page"):
        with gr.Column(scale=7, min_width=340, elem_id="dg-left"):
            gr.Markdown("# DragGAN\nDrag points of a picture; the rest follows.", elem_id="dg-title")
            drawn = canvas(None if pulls is None else pulls.answer, elem_id="dg-canvas")
            status = gr.HTML(
                value="Loading the model …",
                html_template=_STATUS,
                js_on_load=None,
                apply_default_css=False,
                kind="run",
                spoken="polite",
                elem_id="dg-status",
            )
            with gr.Row(elem_classes="dg-row"):
                start = gr.Button("Start", variant="primary", elem_id="dg-start", min_width=110)
                stop = gr.Button("Stop", variant="stop", interactive=False, elem_id="dg-stop", min_width=110)
            with gr.Row(elem_classes="dg-row dg-small"):
                small = functools.partial(gr.Button, size="md", min_width=64, interactive=False)
                undo = small("Undo", elem_id="dg-undo")
                redo = small("Redo", elem_id="dg-redo")
                remove_last = small("Remove last", elem_id="dg-remove-last")
                clear_points = small("Clear points", elem_id="dg-clear-points")
                clear_mask = small("Clear mask", elem_id="dg-clear-mask")
                reset = small("Reset", elem_id="dg-reset")
        with gr.Column(scale=4, min_width=300, elem_id="dg-right"):
            with gr.Group():
                model = gr.Dropdown(
                    [(texts.line(m), m.name) for m in listed], value=listed[0].name, label="Model", elem_id="dg-model"
                )
                with gr.Group(visible=False, elem_id="dg-offer") as offer:
                    terms = gr.Markdown(elem_id="dg-terms")
                    bar = gr.HTML(
                        value="",
                        html_template=_BAR,
                        js_on_load=None,
                        apply_default_css=False,
                        percent=0,
                        visible=False,
                        elem_id="dg-bar",
                    )
                    with gr.Row():
                        not_now = gr.Button("Not now", size="md", elem_id="dg-not-now", min_width=100)
                        download = gr.Button(
                            "Download", variant="primary", size="md", elem_id="dg-download", min_width=100
                        )
                with gr.Row(visible=False, elem_id="dg-presets") as preset_row:
                    gr.HTML("Try", elem_id="dg-presets-title", apply_default_css=False)
                    presets = tuple(
                        gr.Button("", size="sm", min_width=40, visible=False, elem_id=f"dg-preset-{i}")
                        for i in range(_PRESETS)
                    )
                label = gr.Dropdown([], label="Class", visible=False, elem_id="dg-class")
                with gr.Row(elem_id="dg-seed-row"):
                    seed = gr.Number(0, label="Seed", elem_id="dg-seed")
                    random = gr.Button("Random", size="md", elem_id="dg-random", min_width=110)
                truncation = gr.Slider(
                    0,
                    1,
                    listed[0].truncation,
                    step=0.05,
                    label="Truncation",
                    info="0: the average picture. 1: full variety, more failures.",
                    elem_id="dg-truncation",
                )
            with gr.Group():
                space = gr.Radio(
                    [("W+ · local changes", "w+"), ("W · whole picture", "w")],
                    value=describe(DragConfig, "space")["default"],
                    label="Latent space",
                    elem_id="dg-space",
                )
            with gr.Accordion("Advanced", open=False), gr.Row(elem_id="dg-settings"):
                settings = tuple(_setting(name) for name in SETTINGS)
            with gr.Accordion("Open a model file", open=False):
                gr.Markdown(
                    "StyleGAN2 or StyleGAN3 weights: `.pkl`, `.pt`, `.pth` or `.safetensors`. Files are read as data; "
                    "no program in them is run."
                )
                upload = gr.UploadButton("Upload …", file_types=[*SUFFIXES], size="md", elem_id="dg-upload")
                path = gr.Textbox(
                    label="Or a path on this machine, then Enter",
                    placeholder="~/weights/cats.pkl",
                    visible=local,
                    elem_id="dg-path",
                )
            with gr.Row(elem_id="dg-saves"):
                save = gr.Button("Save PNG", size="md", elem_id="dg-save", min_width=90)
                save_gif = gr.Button("Save GIF", size="md", interactive=False, elem_id="dg-gif", min_width=90)
                save_webp = gr.Button("Save WebP", size="md", interactive=False, elem_id="dg-webp", min_width=90)
            file = gr.DownloadButton("Picture", visible="hidden", elem_id="dg-file")
            with gr.Accordion("Help", open=False):
                gr.Markdown(_HELP)
    return Parts(
        session=session,
        canvas=drawn,
        status=status,
        model=model,
        presets=presets,
        preset_row=preset_row,
        offered=gr.State(""),
        asked=gr.State(None),
        offer=offer,
        terms=terms,
        bar=bar,
        download=download,
        not_now=not_now,
        upload=upload,
        path=path,
        label=label,
        seed=seed,
        random=random,
        truncation=truncation,
        space=space,
        settings=settings,
        start=start,
        stop=stop,
        undo=undo,
        redo=redo,
        reset=reset,
        remove_last=remove_last,
        clear_points=clear_points,
        clear_mask=clear_mask,
        save=save,
        save_gif=save_gif,
        save_webp=save_webp,
        file=file,
    )


def _setting(name: str) -> gr.Number | gr.Slider | gr.Radio:
    """A control whose default, range, unit and help are the setting's own."""
    facts = describe(DragConfig, name)
    for value, title in texts.CHOICES["solver"].items():
        facts["help"] = facts["help"].replace(f"{value}:", f"{title}:")
    facts["help"] = facts["help"][:1].upper() + facts["help"][1:]
    look: dict[str, Any] = {"label": texts.TITLES[name], "elem_id": f"dg-{name.replace('_', '-')}", "min_width": 160}
    if name in texts.CHOICES:
        return gr.Radio(
            [(title, value) for value, title in texts.CHOICES[name].items()], value=facts["default"], **look
        )
    if (facts["low"], facts["high"]) == (0, 1):
        return gr.Slider(0, 1, facts["default"], step=0.05, info=facts["help"], **look)
    whole = isinstance(facts["default"], int)
    # A number of steps needs no more than its sentence.
    unit = f" [{facts['unit']}]" if facts["unit"] and not whole else ""
    # The arrows of a number's box: halves of its order of magnitude.
    step = 1 if whole else 10 ** math.floor(math.log10(facts["default"])) / 2
    return gr.Number(
        facts["default"],
        info=facts["help"] + unit,
        # No minimum, maximum or precision: Gradio would refuse or round a value before we can say why.
        step=step,
        **look,
    )


def _wire(demo: gr.Blocks, parts: Parts, do: Handlers, *, local: bool) -> None:
    page = [part for part in vars(parts).values() if isinstance(part, gr.blocks.Block)]
    page += [*parts.settings, *parts.presets]
    outputs = [part for part in page if part is not parts.file]
    drawn = [parts.session, parts.canvas]
    # Callable by name, for tests and tinkerers; what programs are meant to call is in api.py.
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "undocumented"}
    turn, at_rest = do.turns.of, do.at_rest

    demo.load(do.open_page, [parts.model, parts.seed, parts.truncation], outputs, api_name="open", **quiet)
    demo.unload(do.close)

    session = parts.session
    # Of what is chosen while the first choice is under way, the last counts: it is what the control shows.
    last: dict[str, Any] = {"trigger_mode": "always_last", **quiet}
    # Every one of them, each with what was chosen: the answer to the first says in the list what is on the canvas.
    model, every = [session, parts.model, parts.seed], {"trigger_mode": "multiple", **quiet}
    offered = parts.model.input(at_rest(do.choose_model), model, outputs, api_name="model", **every)
    # Apart, so that nobody waits for the server before choosing another one.
    asked = offered.success(do.ask, [parts.offered], [parts.asked], api_name="ask", **quiet)
    asked.success(do.tell, [parts.offered, parts.asked], [parts.asked, parts.terms], api_name="tell", **quiet)
    parts.not_now.click(turn(do.not_now), [session], outputs, api_name="not_now", **quiet)
    parts.download.click(turn(do.download), [session, parts.offered], outputs, api_name="download", **quiet)
    parts.upload.upload(turn(do.open_file), [session, parts.upload], outputs, api_name="upload", **quiet)
    if local:
        parts.path.submit(turn(do.open_file), [session, parts.path], outputs, api_name="path", **quiet)
    # Not with every key: a seed of four digits would be four pictures.
    chosen = [parts.session, parts.seed]
    gr.on([parts.seed.submit, parts.seed.blur], turn(do.set_seed), chosen, outputs, api_name="seed", **last)
    gr.on(
        # The keys and the mouse; then the arrow that puts the first value back.
        [parts.truncation.input, parts.truncation.release],
        at_rest(do.set_truncation),
        [parts.session, parts.truncation],
        outputs,
        api_name="truncation",
        # In the box beside the slider any number can be typed; it shows the nearest possible one when it is left.
        js="(session, psi) => [session, Math.min(Math.max(psi, 0), 1)]",
        **last,
    )
    parts.label.input(at_rest(do.set_label), [parts.session, parts.label], outputs, api_name="class", **last)
    parts.random.click(at_rest(do.random_picture), [parts.session], outputs, api_name="random", **quiet)
    for i, button in enumerate(parts.presets):
        try_one = functools.partial(do.try_preset, number=i)
        button.click(at_rest(try_one), [parts.session], outputs, api_name=f"preset_{i}", **quiet)
    typed = [part.submit for part in parts.settings if isinstance(part, gr.Number)]
    gr.on(typed, turn(do.set_settings), [parts.session, *parts.settings], outputs, api_name="settings", **quiet)

    parts.canvas.edit(turn(do.edit), drawn, outputs, api_name="edit", **last)
    for name in ("remove_last", "clear_points", "clear_mask", "undo", "redo", "reset"):
        click = getattr(parts, name).click
        click(at_rest(getattr(do, name)), drawn, outputs, api_name=name, **every)

    dragged = [*drawn, parts.space, *parts.settings]
    parts.start.click(turn(do.start), dragged, outputs, api_name="start", **quiet)
    # As few as can be: it is to begin and end quickly. The pictures on the way go past them, see `Pulls.answer`.
    pulled = [*drawn, parts.status, *parts.settings, parts.undo, parts.redo, parts.reset, parts.remove_last]
    pulled += [parts.clear_points, parts.clear_mask, parts.save_gif, parts.save_webp, parts.stop]
    parts.canvas.pull(turn(do.pull), dragged, pulled, api_name="pull", **every)
    # Outside the queue: it must get through while the drag runs.
    parts.stop.click(do.stop, None, None, api_name="stop", queue=False, **quiet)

    file = [parts.file, parts.status]
    for button, name, handler in (
        (parts.save, "save", do.save),
        (parts.save_gif, "save_gif", do.save_gif),
        (parts.save_webp, "save_webp", do.save_webp),
    ):
        # Only an animation takes so long that it has something to say.
        saved = button.click(turn(handler), drawn, file[:1] if name == "save" else file, api_name=name, **quiet)
        js = "() => document.querySelector('#dg-file')?.click()"
        saved.success(None, None, None, js=js, api_visibility="private")
