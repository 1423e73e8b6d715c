"""What other programs may ask a running page, with ``gradio_client`` or plain HTTP. Nothing is remembered."""

from __future__ import annotations

import base64
import inspect
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.context import get_blocks_context

from draggan.config import SEEDS
from draggan.engine.base import Engine
from draggan.engine.models import Models, portable_reference
from draggan.errors import ConsentError, ModelNotFound
from draggan.export import Provenance, encode_picture
from draggan.provenance.consent import TEXTS
from draggan.recipe import Edit, Mask, Recipe, read_points
from draggan.service.answers import facts_of, result_of
from draggan.ui.canvas.value import read_mask_url
from draggan.ui.errors import explained
from draggan.ui.server.callers import caller_of, uploader_of
from draggan.ui.server.site import Site
from draggan.ui.tab_queue import visit_of, visitor_of

__all__ = ["register"]

_REPORT_EVERY = 0.5  # seconds
_FIRST = object()  # stands for the model that is listed first
# What there is to say of each parameter, and an example with which a call works as it stands.
_PARAMETERS: dict[str, tuple[str, Any]] = {
    "model": ("a name that /models gives", _FIRST),
    "seed": (f"a whole number from 0 to {SEEDS - 1}", 5),
    "truncation": ("psi, 0 to 1; null: what suits the model", None),
    "label": ("the class, for models that have some", 0),
    "points": ("[[handle x, handle y, target x, target y], ...] in pixels of the picture", [[20, 30, 26, 30]]),
    "mask": ("PNG data URL, opaque where the picture may change; empty: everywhere", ""),
    "settings": ("of a drag, by name as in DragConfig; null: what suits the model", None),
    "text": ("'model' or 'photo': what is agreed to", "model"),
    "agree": ("whether you agree", False),
}


def register(engine: Engine, models: Models, site: Site) -> None:
    """Add the endpoints ``/models``, ``/picture``, ``/drag`` and ``/consent`` to the page under construction."""
    limits, first = site.limits, models.listed()[0].name

    def list_models() -> list[dict]:
        """The models there are: name, title, whether it can be used without a download."""
        return [{"name": model.name, "title": model.title, "here": model.here} for model in models.listed()]

    def begin(model: str, seed: int, truncation: float | None, label: int) -> Recipe:
        # Anybody can send anything.
        if not isinstance(model, str):
            raise ModelNotFound("a model is given by its name, as a text")
        chosen = label if models.load(model).c_dim else None
        return engine.begin(model, seed=seed, truncation=truncation, label=chosen)

    def picture(
        model: str,
        seed: int,
        truncation: float | None = None,
        label: int = 0,
        request: gr.Request = None,  # type: ignore[assignment]  # filled in by Gradio
    ) -> str:
        """The picture of a seed, as a PNG data URL that says that it was made by AI. truncation: null: what
        suits the model."""
        with explained(to_programs=True):
            return _png(engine, models, site, begin(model, seed, truncation, label), request)

    def drag(
        model: str,
        seed: int,
        points: list[list[float]],
        truncation: float | None = None,
        label: int = 0,
        mask: str = "",
        settings: dict | None = None,
        request: gr.Request = None,  # type: ignore[assignment]  # filled in by Gradio
    ) -> Iterator[dict]:
        """Drag points of the picture of a seed.

        points: [[handle x, handle y, target x, target y], ...] in image pixels. mask: a PNG data URL, opaque where the
        picture may change; empty: everywhere. truncation, settings (any of DragConfig's): those left out are what suits
        the model. While it runs, there come "steps", "handles", "targets", "distances", "way" (1 at the targets) and
        "lost" (of each handle, whether it is uncertain where its content is); at the end also "outcome", "notice" (why
        it was ended early, if it was) and "picture", a PNG data URL. Outcomes are "arrived" (the content is there;
        "faded" says whether the picture has lost much of its detail), "stalled", "unlikely" and "far" (no farther with
        this model), "lost" (the content could be followed no farther; or, with "unsure" true, it may have arrived, and
        "lost" says of which handles that is not certain), "max_steps", "stopped" and "diverged" (the steps were too
        large). After all but "arrived" and "stopped" the picture is the nearest on the way.
        """
        caller = caller_of(request)
        with explained(to_programs=True):
            recipe = begin(model, seed, truncation, label)
            allowed = Mask(allowed=read_mask_url(mask, recipe.image_size)) if mask else None
            edit = Edit(
                points=read_points(points, recipe.image_size),
                mask=allowed,
                settings={} if settings is None else settings,
            )
            running = engine.drag(recipe, edit, visitor=visitor_of(request))
        try:
            update = None
            while not running.ended(patience=_REPORT_EVERY):
                with explained(to_programs=True):
                    update = running.newer(update, patience=1.0)
                if caller is not None and caller.unheard() > limits.unwatched:
                    return
                yield facts_of(update)
            with explained(to_programs=True):
                result = result_of(running)
                result["picture"] = _png(engine, models, site, running.reached(), request)
        finally:
            running.stop()
        yield result

    def agree(
        text: str = "model",
        agree: bool = False,
        request: gr.Request = None,  # type: ignore[assignment]  # filled in by Gradio
    ) -> dict:
        """What has to be agreed to before a file is uploaded ("model" or "photo"), in "words"; with agree: true, you
        say so, and files of this session are taken from then on."""
        with explained(to_programs=True):
            if text not in TEXTS:
                raise ConsentError(f"there is no text '{text!s:.40}' to agree to; there are {', '.join(TEXTS)}")
            if agree is True:
                site.consents.agree(visit_of(request), TEXTS[text], uploader=uploader_of(request))
            return {"words": TEXTS[text].words, "agreed": text in site.consents.of(visit_of(request))}

    # Their own limit is wider than that of drags, as for the page's handlers.
    demo = get_blocks_context()
    for endpoint, name in ((list_models, "models"), (picture, "picture"), (drag, "drag"), (agree, "consent")):
        added = gr.api(endpoint, api_name=name)
        if demo is not None:
            _describe(demo.fns[added["id"]], first)


def _describe(function: BlockFunction, first: str) -> None:
    """Give parameters names, words and examples that a person can call it with; Gradio's own are "1st" and "..."."""
    names = [name for name in inspect.signature(function.fn).parameters if name != "request"]  # type: ignore[arg-type]
    for name, component in zip(names, function.inputs, strict=True):
        words, example = _PARAMETERS[name]
        component.label = f"{name}: {words}"  # type: ignore[union-attr]
        shown = first if example is _FIRST else example
        component.example_payload = component.example_value = partial(_same, shown)  # type: ignore[union-attr,method-assign]


def _same(value: Any) -> Any:
    return value


def _png(engine: Engine, models: Models, site: Site, recipe: Recipe, request: gr.Request | None) -> str:
    """A picture as a file: whatever a program gets may be kept."""
    portable = replace(recipe, model=portable_reference(models, recipe.model))
    visit = site.consents.name_of(visit_of(request))
    provenance = Provenance(deployment=site.deployment, door="api", visit=visit)
    pixels = engine.picture(recipe, visitor=visitor_of(request))
    data = encode_picture(pixels, recipe=portable, provenance=provenance)
    return "data:image/png;base64," + base64.b64encode(data).decode()
