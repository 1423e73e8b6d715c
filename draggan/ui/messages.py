"""What the page says. Each sentence says what is the case and what to do next."""

from __future__ import annotations

import re

from draggan.drag import DragStep
from draggan.engine.models import Model, Terms
from draggan.session import Session

__all__ = [
    "CHOICES",
    "DRAGGING",
    "EXPIRED",
    "FAILED",
    "FILES",
    "HELP",
    "LIVE",
    "LOADING",
    "NO_MEMORY",
    "OUT_OF_STEP",
    "RELOAD",
    "STARTING",
    "TITLE",
    "TITLES",
    "UNEXPECTED",
    "WAITING",
    "WRONG_VALUE",
    "arrived_model",
    "download_progress",
    "drag_outcome",
    "drag_progress",
    "drawing",
    "hint",
    "live_outcome",
    "megabytes",
    "model_line",
    "offer",
    "preset_ready",
    "reading",
    "sentence",
    "wrong_setting",
]

# What the page calls the settings of a drag.
TITLES = {
    "step_size": "Step size",
    "max_steps": "Most steps",
    "stop_distance": "Arrival distance",
    "mask_weight": "Mask strength",
    "r1": "Pulled radius (r1)",
    "r2": "Search radius (r2)",
    "free_rows": "Free latent rows",
    "solver": "Solver",
    "naturalness": "Naturalness",
}
# What it calls the values of those that are no numbers.
CHOICES = {"solver": {"adam": "Adam, as published", "gauss-newton": "Second order"}}
LIVE = "The picture follows. Let go where it should stay; Esc leaves it as it is."
DRAGGING = "A drag is running. Stop it, or wait until it has ended."
EXPIRED = "The page was away for so long that its work is no longer kept. This is the first picture again."

OUT_OF_STEP = "A change had not reached the page. This is what there is; what was drawn since is not part of it."

WRONG_VALUE = "Not a possible value"  # titles of what is said in a corner of the page
FAILED = "That did not work"
STARTING = "Starting …"
WAITING = "Waiting until another drag has ended …"
RELOAD = "the page was away for so long that its work is no longer kept; reload it to begin again"
LOADING = "Loading the model …"
TITLE = "# DragGAN\nDrag points of a picture; the rest follows."
FILES = (
    "StyleGAN2 or StyleGAN3 weights: `.pkl`, `.pt`, `.pth` or `.safetensors`. Files are read as data; no program in "
    "them is run."
)
NO_MEMORY = "There is not enough memory for this. Close other programs, or choose a smaller model."
UNEXPECTED = "Something unexpected went wrong; your picture and points are kept. The log says what it was."
HELP = """
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


def model_line(model: Model) -> str:
    """A model in the list."""
    return f"{model.title} · {model.state}" if model.state else model.title


def sentence(message: str) -> str:
    """An error's message as a sentence of its own; names that begin it stay as they are."""
    if re.match(r"[a-z]+\b(?![\w.:/\\=-])", message):
        message = message[0].upper() + message[1:]
    return message if message.endswith((".", "!", "?")) else message + "."


def hint(session: Session) -> str:
    """What to do next."""
    n = len(session.pairs)
    if session.pending is not None:
        text = f"Now click where point {n + 1} should go."
    elif n == 0:
        text = "Click a point of the picture, then where it should go. Or choose Live and pull."
    else:
        text = f"{n} point{'s' if n > 1 else ''} set. Press Start, or click to add another."
    if session.mask is not None:
        text += " Only the bright region may change."
    return text


def preset_ready(preset: str) -> str:
    """An example has been chosen."""
    return f"{preset}: press Start, or move the points first."


def reading(name: str) -> str:
    """A model file is being read."""
    return f"Reading {name} …"


def drawing(number: int, count: int) -> str:
    """An animation is being drawn."""
    return f"Drawing picture {number} of {count} …"


def arrived_model(model: Model) -> str:
    """A model has come while something else was being done."""
    return f"{model.title} is here now. Choose it in the list to use it."


def wrong_setting(name: str, value: object, message: str) -> str:
    """What `DragConfig` says about a value, in the words of the page."""
    was = f"{TITLES[name]} is empty" if value is None else f"{TITLES[name]} {value} is not allowed"
    return message.replace(f"{name} = {value!r} is not allowed", was)


def drag_progress(step: DragStep, seconds: float) -> str:
    """How far a running drag is.

    Args:
        seconds: since its first step.
    """
    text = f"Step {step.index} · {_to_go(step)}"
    if step.index > 0 and seconds > 0:
        text += f" · {_figure(step.index / seconds)} steps/s"
    return text


def live_outcome(step: DragStep) -> tuple[str, str]:
    """How a pull ended: the kind of news and the sentence."""
    far = float(step.distances.max())
    if step.outcome == "arrived":
        return "good", "There it is. Pull on, or Undo takes you back."
    if step.outcome == "diverged":
        return "bad", "The picture broke up; the best one is shown. Undo takes you back."
    if step.outcome == "stopped":
        return "note", f"Stopped where it was, {far:.1f} px off. Pull on, or Undo takes you back."
    return "note", f"As near as it came, {far:.1f} px off: this model may not reach farther. Undo takes you back."


def drag_outcome(step: DragStep, stop_distance: float, session: Session) -> tuple[str, str]:
    """How a drag ended: the kind of news ("good", "note", "bad") and the sentences.

    Args:
        step: its last one.
        stop_distance: image pixels within which a handle has arrived.
        session: as it is after the drag.
    """
    steps = f"{step.index} step{'' if step.index == 1 else 's'}"
    if step.outcome == "arrived":
        if step.index == 0:
            return "note", "Every handle is already on its target. Move a target away, or add a point."
        return "good", (
            f"Arrived after {steps}: {_every(step)} within {_figure(stop_distance)} px of its target. "
            "Move or add points to go on, or save the picture."
        )
    if step.outcome == "stopped":
        return "note", f"Stopped after {steps}, {_to_go(step)}. Start goes on from here; Undo takes you back."
    if step.outcome == "max_steps":
        return "note", f"{steps} done, the limit, with {_to_go(step)}. Start goes on from here; Undo takes you back."
    if step.outcome == "stalled":
        advice = "Try a nearer target" + ("" if session.mask is None else ", a larger painted region")
        advice += ", or W in place of W+." if session.space == "w+" else ", or W+ in place of W."
        advice += " Undo takes you back."
        return "note", (
            f"No more progress after {steps}, {_to_go(step)}: this model may not be able to do it. {advice}"
        )
    return "bad", (
        f"The steps became too large and the picture broke up after {steps}; the best picture is shown. "
        "Set a smaller step size under Advanced and press Start; Undo takes you back."
    )


def offer(model: Model, terms: Terms, *, asking: bool = False) -> str:
    """What to know before a download."""
    if terms.by_hand:
        return f"{model.title} cannot be downloaded from here.\n\n{terms.by_hand}\n\nTerms: {terms.licence}."
    size = "asking …" if asking else "not known" if terms.bytes is None else megabytes(terms.bytes)
    lines = [
        f"{model.title} is not on this machine yet.\n",
        f"Size: {size}",
        f"From: {terms.source}",
        f"Terms of the weights: {terms.licence}",
    ]
    return "\n".join([*lines, terms.notes] if terms.notes else lines)


def download_progress(done: int | None, total: int | None, per_second: float) -> str:
    """How far a download is; ``done`` None: no byte has come yet."""
    if done is None:
        return "Connecting …"
    text = megabytes(done) if total is None else f"{done / 1e6:.0f} of {megabytes(total)}"
    return text + (f" · {megabytes(per_second)}/s" if per_second > 0 else "")


def megabytes(count: float) -> str:
    """A number of bytes for people."""
    return f"{_figure(count / 1e6)} MB"


def _every(step: DragStep) -> str:
    return "the handle is" if len(step.handles) == 1 else "every handle is"


def _to_go(step: DragStep) -> str:
    """The distance that is left, of the farthest point where there are several."""
    farthest = int(step.distances.argmax())
    which = "" if len(step.distances) == 1 else f" (point {farthest + 1})"
    return f"{step.distances[farthest]:.1f} px to go{which}"


def _figure(value: float) -> str:
    """Two significant figures, without an exponent: 0.37, 5.2, 52."""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0") if value >= 0.95 else f"{value:.2g}"
