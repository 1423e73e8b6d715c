"""What other programs may ask a running page, with ``gradio_client`` or plain HTTP. Nothing is remembered."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import gradio as gr

from draggan.drag import DragStep
from draggan.engine.models import Models
from draggan.errors import ConfigError
from draggan.export import encode_png
from draggan.session import Session
from draggan.ui.canvas.value import with_canvas
from draggan.ui.errors import explained
from draggan.ui.jobs import DragJob, DragSlots
from draggan.ui.rendering import begin_drag, first_session, picture

__all__ = ["register"]

_REPORT_EVERY = 0.5  # seconds


def register(models: Models, drags: DragSlots) -> None:
    """Add the endpoints ``/models``, ``/picture`` and ``/drag`` to the page under construction."""

    def list_models() -> list[dict]:
        """The models there are: name, title, whether it can be used without a download."""
        return [{"name": model.name, "title": model.title, "here": model.here} for model in models.listed()]

    def psi(model: str, truncation: float | None) -> float:
        return models.find(model).truncation if truncation is None else truncation

    def picture_of(model: str, seed: int, truncation: float | None = None, label: int = 0) -> str:
        """The picture of a seed, as a PNG data URL that says that it was made by AI. truncation: none: what suits."""
        with explained():
            return _png(models, first_session(models, model, seed, psi(model, truncation), label))

    def drag(
        model: str,
        seed: int,
        points: list[list[float]],
        truncation: float | None = None,
        label: int = 0,
        mask: str = "",
        settings: dict | None = None,
    ) -> Iterator[dict]:
        """Drag points of the picture of a seed.

        points: [[handle x, handle y, target x, target y], ...] in image pixels. mask: a PNG data URL, opaque where the
        picture may change; empty: everywhere. truncation, settings (any of DragConfig's): those left out are what suits
        the model. While it runs, there come "steps", "handles" and "distances"; at the end also "outcome" and
        "picture", a PNG data URL.
        """
        with explained():
            session = first_session(models, model, seed, psi(model, truncation), label)
            session = with_canvas(session, {"points": points, "mask": mask or None})
            if not all(isinstance(name, str) for name in settings or {}):
                raise ConfigError("settings are given by name, such as {'max_steps': 100}")
            job = DragJob(begin_drag(models, session, settings or {}))
        while not drags.take_slot(patience=0.5):
            yield {"steps": 0}
        try:
            job.begin()
            step = None
            while step is None or not step.done:
                with explained():
                    step = job.newer(step, patience=1.0)
                if step is not None and not step.done:
                    yield _facts(step)
                    job.ended(patience=_REPORT_EVERY)
            with explained():
                session = session.dragged(session.recipe.then(session.edit(), step.ws.cpu().numpy()), step.handles)
                result = _facts(step) | {"outcome": step.outcome, "picture": _png(models, session)}
        finally:
            job.end()
            drags.leave_slot()
        yield result

    # Their own limit is wider than that of drags, as for the page's handlers.
    gr.api(list_models, api_name="models")
    gr.api(picture_of, api_name="picture")
    gr.api(drag, api_name="drag")


def _facts(step: DragStep) -> dict[str, Any]:
    return {"steps": step.index, "handles": step.handles.tolist(), "distances": step.distances.tolist()}


def _png(models: Models, session: Session) -> str:
    pixels, details = picture(models, session)
    return "data:image/png;base64," + base64.b64encode(encode_png(pixels, details)).decode()
