"""What the page says. Each sentence says what is the case and what to do next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool
from typing_extensions import assert_never

from draggan.config import SEEDS
from draggan.downloads import Terms, megabytes
from draggan.engine.base import InversionUpdate, Update
from draggan.engine.models import Model
from draggan.inversion import VERDICTS, Expected, Verdict
from draggan.sentences import sentence
from draggan.session import Moment, Session

__all__ = [
    "AGREE_FIRST",
    "AGREE_TO_PHOTO",
    "CHOICES",
    "COPIED",
    "DELETED",
    "DRAGGING",
    "ENDS",
    "EXPIRED",
    "FAILED",
    "FILES",
    "FIRST_SAVE",
    "GROUPS",
    "HELP",
    "HELP_OF",
    "LIVE",
    "LOADING",
    "NOT_OPENED",
    "NO_CLIPBOARD",
    "NO_FILM",
    "NO_MEMORY",
    "NO_MP4",
    "NO_PHOTO",
    "NO_ROOM",
    "NO_SEED",
    "OPENING",
    "OUT_OF_STEP",
    "PHOTO_AGAIN",
    "PHOTO_CHOSEN",
    "PHOTO_GONE",
    "PUT_BACK",
    "RELOAD",
    "STARTING",
    "TERMS",
    "TIPS",
    "TITLE",
    "TITLES",
    "UNEXPECTED",
    "WRONG_VALUE",
    "agree_before_opening",
    "arrived_model",
    "drag_outcome",
    "drag_progress",
    "drawing",
    "expected_opening",
    "favourite",
    "hint",
    "hints",
    "holds_nothing",
    "is_taut",
    "later_work",
    "live_outcome",
    "live_rest",
    "model_facts",
    "model_gone",
    "no_model",
    "not_a_photo",
    "not_found",
    "opened_photo",
    "opening",
    "picture_label",
    "preset_hints",
    "preset_ready",
    "reading",
    "refused_work",
    "restored",
    "saved",
    "saved_session",
    "session_opened",
    "solver_title",
    "travelled",
    "work_opened",
    "writing",
    "wrong_setting",
]

# What the page calls groups of models, in their order.
GROUPS = {
    "built in": "Built in",
    "files": "Your files",
    "faces": "Faces",
    "people": "People",
    "animals": "Animals",
    "vehicles": "Vehicles",
    "other": "Others",
}
# What the page calls the settings of a drag.
TITLES = {
    "step_size": "Step size",
    "max_steps": "Maximum steps",
    "stop_distance": "Arrival distance",
    "mask_weight": "Mask strength",
    "r1": "Patch radius (r1)",
    "r2": "Search radius (r2)",
    "free_rows": "Free latent rows",
    "solver": "Solver",
    "naturalness": "How closely it follows",
    "space": "What changes with it",
    "mask_hold": "Keep everything outside the mask unchanged",
    "max_departure": "Furthest change",
}
# What it calls the values of those that are no numbers.
CHOICES = {
    "solver": {"adam": "Adam, as published", "gauss-newton": "Gauss-Newton (fast)"},
    "space": {"w+": "Local", "w": "Whole picture"},
    "mask_hold": {"exact": "nothing changes", "soft": "little changes"},
}
# What it calls the ends of those that lie between two.
ENDS = {"naturalness": ("Follow exactly", "Keep natural")}
# Plainer words than those for authors.
HELP_OF = {
    "naturalness": "To the left, only what you hold moves, at the cost of odd pictures; to the right, the picture "
    "stays like those that the model makes.",
    "space": "Local (W+): parts can move apart from each other; only a mask keeps the rest as it is. "
    "Whole picture (W): all of it turns into another one of its kind.",
    "mask_hold": "Not ticked: a little may change there, as in the paper.",
    "free_rows": "How many of the first layers may change (of the latent's rows); the rest keep colours and appearance",
    "r1": "How much around a handle counts as its content. With Gauss-Newton it matters for three points or more",
    "r2": "How far around a handle its content is looked for after a step. Only with Adam; Gauss-Newton follows the "
    "content by a rule of its own",
    "stop_distance": "A handle this close to its target has arrived; a quarter of a cell of the model's features "
    "always counts as close",
    "step_size": "How far the latent goes in a step: the learning rate",
    "mask_weight": "How strongly the latent is asked to leave everything outside the mask as it is (lambda)",
    "max_departure": "The drag stops before the picture is farther from where it began than this: 1 is the distance "
    "of two random pictures; 100: it goes on regardless",
    "solver": "Adam moves a pixel a step; Gauss-Newton solves for the step that reaches the target",
}
AGREE_FIRST = "Agree first to what stands beside the button for uploads (programs: call /consent), then send the file."
COPIED = "Copied. The invisible mark goes along; what else a file says of itself stays behind."
NO_CLIPBOARD = "This browser does not let the page copy a picture. Save it instead."
NO_FILM = "Stopped: no film was saved."
NO_MP4 = "MP4 needs another package: pip install imageio imageio-ffmpeg"
OPENING = "The model looks at your photo …"
PHOTO_CHOSEN = "Put the frame over what you want to change, then press “Open this part” under “Your photo”."
PHOTO_AGAIN = "This is the photo on the canvas: what you save goes back into it."
NO_PHOTO = "The whole photo is not here any more: choose it once more under “Your photo”."
PHOTO_GONE = (
    "your last work is of a photo whose tuned weights are not here any more. It stays kept: open the session file that "
    "you have saved of it (“Open saved work …”), and it comes back"
)
AGREE_TO_PHOTO = "your last work is of a photo. Agree to the sentence under “Your photo”, and it comes back"
NOT_OPENED = "The photo was not opened. What was there is as it was."
LIVE = "The picture follows your hand. Let go where it should stay."
LET_GO = "You have let go. The picture is still on its way; Stop or Esc keeps it as it is."
DELETED = "Deleted from the history. Undo brings it back."
PUT_BACK = "The deleted picture is in the history again."
DRAGGING = "A drag is running. Stop it, or wait until it has finished."
EXPIRED = "This page was away for so long that its work is no longer kept. Here is the first picture again."

OUT_OF_STEP = "A change had not reached the page. It is up to date again, without what you drew in the meantime."

WRONG_VALUE = "Value not allowed"  # titles of what is said in a corner of the page
FAILED = "That did not work"
STARTING = "Starting …"
NO_SEED = f"there is no seed; give a whole number from 0 to {SEEDS - 1}, or press Random"
RELOAD = "the page was away for so long that its work is no longer kept; reload it to get back what your browser has"
TERMS = (
    "Nobody's picture without their consent, nothing that deceives, nothing sexual with real people. Everything "
    "you save is marked as made by AI."
)
FIRST_SAVE = (
    "The file says that it was made by AI: in its metadata, in an invisible mark, and signed where that is set up. "
    "Many sites remove all of that, so say it yourself where you share it. “Check a file” shows what a file carries."
)
LOADING = "Loading the model …"
TITLE = "# DragGAN\nDrag points in a picture; the rest follows."
# What parts of the page do, by the names they have there.
TIPS = {
    "start": "Drag every point to its target (Space)",
    "stop": "Stop here; what has been reached stays (Space, Esc)",
    "undo": "One step back: points, masks, drags, pictures (Ctrl Z)",
    "redo": "What was undone, again (Ctrl Shift Z)",
    "reset": "The starting picture, with every point where it was set; Undo takes it back",
    "random": "Another picture of this model; Undo brings this one back",
    "seed": "Every whole number is a picture of this model",
    "save": "Save the picture as a file (Ctrl S)",
    "film": "Save the way from the starting picture to this one as a film",
    "copy": "Copy the picture, to paste it elsewhere (Ctrl C)",
    "recipe": "How the picture came to be, without its pixels: it opens here again, and programs can read it",
    "save-session": "Save the work itself, with its history, to go on here or on another machine",
    "opener": "A picture, film, recipe or session that was saved here; or drop it anywhere on the page",
    "picture-format": "PNG is exact; JPEG and WebP are smaller. All of them open here again",
    "compared": "The starting picture on the left, this one on the right",
    "pasted": "What has changed goes back into the whole of your photo. Off: only the part that the model draws",
    "film-format": "MP4 plays nearly everywhere; GIF and WebP repeat by themselves",
    "speed": "Normal: 1.6 seconds for each drag, 8 at most",
    "smooth": "With pictures in between, at an even speed. Off: the drag's own steps",
    "back": "After the end, back to the beginning",
    "times": "As the model draws it, or enlarged by plain resampling: more pixels, no more detail. Films: 1024 at "
    "most; a whole photo stays as it was",
    "dots": "Draw the points and their arrows into the file",
}
FILES = (
    "StyleGAN2 or StyleGAN3 weights: `.pkl`, `.pt`, `.pth` or `.safetensors`. Files are read as data; no program in "
    "them is run."
)
NO_MEMORY = "There is not enough memory for this. Close other programs, or choose a smaller model."
NO_ROOM = "The file could not be written: the disk of this server is full, or cannot be written to."
UNEXPECTED = "Something unexpected went wrong; your picture and points are kept. The log has the details."
CHECK = """
See what a picture or film says about where it is from: content credentials, words in the file, this installation's
invisible mark, a recipe. Files from other programs can be checked, too. The server reads the file and does not keep it.
"""

HELP = """
| What you can do | How |
|---|---|
| drag content | *Points*: click or tap it, then where it should go, or press, drag, release; then **Start** |
| let the picture follow the pointer | *Live*: hold the picture and drag. The dot stays on what you hold |
| hold something still | click a point, pause, click it again: it stays; or select a point, press `P` |
| keep the rest as it is | *Mask*: paint what may change; *Erase* takes paint away. Without a mask, all of it may |
| move, switch off, delete a point | drag its dot or use the arrow keys; the list beside the picture; `Del` |
| see what a drag can do | *Examples*: each brings a picture and points of its own |
| begin with another picture | *Start with*, *Random*, a seed; *Truncation* for more variety |
| keep what you like | *Favourite*, in this browser; *Save*, as a file that opens again here |
| use another model | the box *Model*: search it; published ones show their size and terms before downloading |
| use your own photo | *Your photo*: agree, choose one, frame a part, open it; *Photo* shows all, *Save* puts it back |
| look back | *Before*, and the slider over every picture of the drags; **Use** goes on from one |
| go back | *Undo*, or a picture of *History*, also one that was undone and left; each says which one it came from |
| save a picture | PNG, JPEG, WebP, as drawn, twice, four times as large; *File options*: before and after, points |
| save a film | MP4, GIF, WebP through all drags; smooth, slow or fast, there and back |
| see more closely | the wheel or two fingers zoom; hold Space and drag to move; `?` lists all keys |
| know what you may do with it | *Responsible use*, below |
| change how it drags | *How it drags*; lengths there are pixels of the picture |
"""


def solver_title(solver: str) -> str:
    """What the page calls a solver."""
    return CHOICES["solver"].get(solver, solver)


def model_facts(model: Model, terms: Terms | None) -> list[str]:
    """What is to be known of a model in the list, besides its title; ``terms``: None: nobody knows any."""
    facts = []
    if model.state == "by hand":
        facts.append("To get by hand")
    elif model.state:
        size = "" if terms is None or terms.bytes is None else f" · {megabytes(terms.bytes)}"
        source = "" if terms is None or not terms.source else f" from {terms.source}"
        facts.append(f"{sentence(model.state)[:-1]}{size}{source}")
    elif model.group != "built in":
        facts.append("On this machine")
    if terms is not None:
        facts.append(f"Terms: {terms.licence}")
    return facts


def hint(session: Session) -> str:
    """What to do next, with the tool for points."""
    return hints(session)["points"]


def hints(session: Session) -> dict[str, str]:
    """What to do next, by the tool that is chosen on the canvas."""
    n, active, lit = len(session.pairs), len(session.active_numbers), session.mask is not None
    drag = "Hold a point and drag it. Grabbing anything else removes your points."
    only = _what_may_change(session)
    if session.pending is not None:
        points = f"Now click where point {n + 1} should go. To hold it in place, click it again."
        live = (
            f"Hold the picture and drag: it follows the pointer. Point {n + 1} has no target yet and is dropped then."
        )
    elif n == 0:
        points = "Click a point in the picture, then where it should go. Or choose Live and drag."
        live = "Hold the picture and drag: it follows the pointer."
    elif active == 0:
        which = "The point is" if n == 1 else "All points are"
        points = f"{which} switched off. Switch one on in the list, or click to add another."
        live = "Hold the picture and drag: it follows the pointer. Points that are switched off are dropped."
    elif session.is_there:
        points, live = f"{_at_rest(session)} Move a target, or click to add another point.", drag
    else:
        off = "" if active == n else f", {n - active} of them switched off"
        points, live = f"{n} point{'s' if n > 1 else ''} set{off}. Press Start, or click to add another.", drag
    if lit:
        mask, erase = f"{only.strip()} Paint more, or choose Points.", "Wipe paint away."
    else:
        mask, erase = "Paint what may change; the rest stays as it is.", "There is no paint to erase yet. Choose Mask."
    return {"points": points + only, "pull": live + only, "mask": mask, "erase": erase}


def _what_may_change(session: Session) -> str:
    """Where there is a mask, a sentence on it, or on points that it keeps from where they should go."""
    return "" if session.mask is None else _held_by_mask(session) or " Only the bright region may change."


def _held_by_mask(session: Session) -> str:
    """A sentence on the points that are to move from or to where a mask holds everything; empty: there are none."""
    mask = session.mask
    if mask is None or session.settings.get("mask_hold") == "soft":
        return ""
    ends = {number: (session.pairs[number].handle, session.pairs[number].target) for number in session.active_numbers}
    to_go = {number: both for number, both in ends.items() if both[0] != both[1] and both not in session.arrived}
    held = [str(number + 1) for number, both in to_go.items() if not all(mask[round(y), round(x)] for x, y in both)]
    if not held:
        return ""
    who = f"Point {held[0]} starts or ends" if len(held) == 1 else f"Points {_listed(held)} start or end"
    return f" {who} outside the bright region, where nothing can change. Paint there too."


def _listed(names: Sequence[str]) -> str:
    """Several names in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def travelled(done: str, before: Session, after: Session) -> dict[str, str]:
    """What to do next, and which step was undone or redone; ``done``: what was done with it."""
    if after.start is not before.start:
        step = "another model" if after.model != before.model else "another picture"
    elif after.recipe is not before.recipe:
        is_drag = abs(len(after.recipe.edits) - len(before.recipe.edits)) == 1
        step = "a drag" if is_drag else "another picture"
    else:
        step = "paint" if after.mask is not before.mask else "a point"
    return {tool: f"{sentence} {done}: {step}." for tool, sentence in hints(after).items()}


def _at_rest(session: Session) -> str:
    """Why there is nothing to drag, where every point that is on is held or has arrived."""
    held = sum(pair.handle == pair.target for pair in session.active_pairs)
    if held == len(session.active_pairs):
        return "The point is held where it is." if held == 1 else "All points are held where they are."
    return "Nothing is left to drag."


def preset_ready(preset: str, *, other: bool = False) -> str:
    """An example has been chosen; ``other``: it has a picture of its own, in place of the one that was there."""
    return f"{preset}: press Start, or move the points first.{_OWN_PICTURE if other else ''}"


_OWN_PICTURE = " An example brings its own picture; Undo brings yours back."


def preset_hints(session: Session, preset: str, *, other: bool = False) -> dict[str, str]:
    """The same by tool."""
    live = f"{preset}: press Start, or hold a point and drag it.{_OWN_PICTURE if other else ''}"
    return hints(session) | {"points": preset_ready(preset, other=other), "pull": live}


def no_model(name: str) -> str:
    """What was typed where a model file is named is none."""
    return f"there is no file or listed model called {name}"


def reading(name: str) -> str:
    """A model file is being read."""
    return f"Reading {name} …"


def drawing(number: int, count: int, left: float | None = None) -> str:
    """A film is being drawn; ``left``: for so many seconds more."""
    soon = left is None or left < 2
    return f"Drawing frame {number} of {count} …" + ("" if soon else f" {_about(left or 0)} left.")


def writing(done: float) -> str:
    """A film is being written; ``done``: so much of it is, 0 to 1."""
    return f"Writing the file: {100 * done:.0f} %"


def opening(update: InversionUpdate) -> str:
    """How far a photo is on its way into a model."""
    doing = "Finding a picture like your photo" if update.stage == "latent" else "Learning the details of your photo"
    verdict = "" if update.verdict is None else f" {VERDICTS[update.verdict]}"
    left = "" if update.seconds_left < 2 else f" {_about(update.seconds_left)} left."
    return f"{doing}: {100 * update.progress:.0f} %.{left}{verdict}"


def expected_opening(seconds: Expected) -> str:
    """How long opening a photo will take."""
    done = _about(seconds.done)
    if seconds.done < 60:
        return f"Opening takes {done[0].lower()}{done[1:]} here."
    latent = _about(seconds.latent)
    soon = f"{latent[0].lower()}{latent[1:]}"
    return f"Opening takes {done[0].lower()}{done[1:]} here; after {soon}, “Good enough” lets you drag it."


def not_found(what: str) -> str:
    """A model's subject was not found on a photo; ``what``: what the model draws, if that is known."""
    sure = (
        f"This model knows {what}, and is not sure of one here." if what else "This model is not sure of its subject."
    )
    return f"{sure} Move the frame over it, mark eyes and mouth, or choose another model."


def opened_photo(verdict: Verdict | None, cut_short: str = "") -> tuple[str, str]:
    """A photo is on the canvas: the kind of news and the sentences; ``cut_short``: why the engine has ended it."""
    if cut_short:
        return "note", f"{sentence(cut_short)} Drag it like any other picture."
    if verdict is None:
        return "note", "Your photo is open as far as it had got. Drag it like any other picture, or open it once more."
    if verdict == "foreign":
        return "note", VERDICTS[verdict]
    return "good", f"{VERDICTS[verdict]} Drag it like any other picture."


def _about(seconds: float) -> str:
    """So long, as nobody would count it more exactly."""
    if seconds < 10:
        return f"About {max(round(seconds), 1)} s"
    if seconds < 90:
        return f"About {5 * round(seconds / 5)} s"
    return f"About {round(seconds / 60)} min"


def restored(session: Session, *, lost: int = 0) -> str:
    """Work has come back from the browser; ``lost``: steps of its history that a model is missing for."""
    points = len(session.pairs) + (session.pending is not None)
    parts = ["the picture"]
    if points:
        parts.append(f"{points} point{'' if points == 1 else 's'}")
    if session.mask is not None:
        parts.append("the mask")
    if session.past:
        parts.append(f"{_steps(len(session.past))} to undo")
    gone = f" {_steps(lost)} with a model that is not here could not be kept." if lost else ""
    return f"Your work is back: {_listed(parts)}.{gone}"


def work_opened(name: str, edits: int) -> str:
    """A saved picture or a recipe is on the canvas again."""
    return f"{name} is open again: the picture{f' and {_steps(edits)} to undo' if edits else ''}."


def not_a_photo(name: str) -> str:
    """A session's file was chosen where photos are."""
    return f"{name} is a session, not a photo; open it with “Open saved work …”"


def agree_before_opening(name: str) -> str:
    """A session's file is of a photo, and nobody has agreed yet."""
    return f"{name} has a photo in it; agree to the sentence under “Your photo” first, then open it again"


def session_opened(name: str, steps: int, *, photo_missing: bool) -> str:
    """A session's file is on the canvas again; ``photo_missing``: without the photo that its picture belongs to."""
    text = f"{name} is open again: the picture{f' and {_steps(steps)} to undo' if steps else ''}."
    if photo_missing:
        text += " To save it into the whole photo, choose that photo once more under “Your photo”."
    return text


def saved_session(name: str, *, of_photo: bool) -> str:
    """A session's file has been written."""
    private = " It draws your photo again: keep it as you would the photo." if of_photo else ""
    return f"Saved as {name}. Open it here or on another machine to go on.{private}"


def picture_label(moment: Moment) -> str:
    """What a picture of the history is, in a word or two."""
    if moment.recipe.edits:
        return f"Drag {len(moment.recipe.edits)}"
    seed = moment.start.seed
    return "Photo" if moment.start.is_of_photo else "Start" if seed is None else f"Seed {seed.seed}"


def favourite(title: str, session: Session) -> str:
    """What a favourite is called: its model, and how it came about."""
    start = "your photo" if session.recipe.is_of_photo else "" if session.seed is None else f"seed {session.seed}"
    return ", ".join(part for part in (title, start, "dragged" if session.is_edited else "") if part)


def saved(name: str) -> str:
    """A file has been written."""
    return f"Saved as {name}."


def _steps(count: int) -> str:
    return f"{count} step{'' if count == 1 else 's'}"


def model_gone(title: str) -> str:
    """Kept work cannot be shown, as its model is not here."""
    return (
        f"Your last work needs {title}, which is not here as it was. It stays kept: open or download that model again "
        "and it comes back"
    )


def later_work(why: str) -> str:
    """Kept work cannot be shown for now; ``why``: a sentence."""
    return f"Your last work could not be shown this time, and stays kept. {why}"


def refused_work(message: str) -> str:
    """Kept work cannot be shown, as something is wrong with it."""
    return f"The work kept in this browser cannot be used, so this is a new start. {sentence(message)}"


def arrived_model(model: Model) -> str:
    """A model has come while something else was being done."""
    return f"{model.title} is ready. Choose it from the list to use it."


def wrong_setting(name: str, value: object, message: str) -> str:
    """What `DragConfig` says about a value, in the words of the page."""
    was = f"{TITLES[name]} is empty" if value is None else f"{TITLES[name]} {value} is not allowed"
    return was + message.rpartition(" is not allowed")[2]


def drag_progress(update: Update, seconds: float, numbers: Sequence[int] = (), left: float | None = None) -> str:
    """How far a running drag is.

    Args:
        seconds: since its first step.
        numbers: of its points on the page, from 0; empty: they are numbered as they come.
        left: seconds; None: nobody knows.
    """
    text = f"Step {update.index} · {_to_go(update, numbers)}"
    if update.index > 0 and seconds > 0:
        pace = _figure(update.index / seconds)
        text += f" · {pace} step{'' if pace == '1' else 's'}/s"
    return text if left is None else f"{text} · {_about(left).lower()} left"


def is_taut(update: Update) -> bool:
    """Whether a live drag's pointer is farther than the content can follow: so far that people see it."""
    beyond = update.outcome if update.done else update.rests
    return beyond not in (None, "arrived", "stopped") and float(update.distances.max()) > 2 * update.stop_distance


_NoFarther = Literal["stalled", "unlikely", "far", "lost"]
"""Outcomes of drags that stop short of their targets, as no way leads there."""


def live_rest(update: Update) -> str:
    """Why the picture does not follow the pointer any farther; of a drag that rests short of its targets."""
    why = "this model makes no picture nearer to that"
    if update.rests in ("stalled", "unlikely", "far", "lost"):
        why = _why_no_farther(update.rests, "what you hold")
    return f"As far as it goes: {why}."


def live_outcome(update: Update, *, moved: bool = True, dropped: bool = False) -> tuple[str, str]:
    """How a pull ended: the kind of news and the sentence.

    Args:
        moved: the picture is another one now.
        dropped: there were points, and they are gone, as they lie on other content now.
    """
    far = float(update.distances.max())
    undo = "Undo takes you back." if moved else ""
    on = "Keep dragging, or press Undo to go back."
    if dropped:
        undo = on = "Your points are gone; Undo brings them back."
    if update.outcome == "arrived" and update.faded:
        return "note", f"Arrived, but the picture has lost much of its detail. {undo}".strip()
    if update.outcome == "arrived":
        return "good", f"Arrived. {on}"
    if update.outcome == "diverged":
        return "bad", f"The picture fell apart, so the best one on the way is shown. {undo}"
    if update.outcome == "stopped" or update.outcome is None:
        return "note", f"Stopped {far:.1f} px away. {on}"
    if update.outcome == "max_steps":
        return "note", f"Stopped at the limit of steps, {far:.1f} px away. {on}"
    if update.unsure:
        return "note", f"{_doubtful(update, '', ())} {undo}".strip()
    if holds_nothing(update):
        return "note", f"{_LITTLE_THERE} {undo}".strip()
    return "note", f"{_as_far_as_it_goes(update.outcome, update)}, {far:.1f} px to go. {undo}".strip()


def drag_outcome(update: Update, session: Session, *, moved: bool = True) -> tuple[str, str]:
    """How a drag ended: the kind of news ("good", "note", "bad") and the sentences.

    Args:
        update: its last one.
        session: as it is after the drag.
        moved: the picture is another one now.
    """
    steps = f"{update.index} step{'' if update.index == 1 else 's'}"
    numbers = session.active_numbers
    if update.outcome == "arrived":
        if update.index == 0:
            return "note", "Every point is already on its target. Move a target, or add a point."
        if update.faded:
            return "note", (
                f"Arrived after {steps}, but the picture has lost much of its detail on the way. Try a closer target; "
                "Undo takes you back."
            )
        on = "Go on, or save the picture."
        if session.mask is None:
            on += " If too much else has changed, undo it and paint a mask."
        near = _at_least(max(update.stop_distance, float(update.distances.max())))
        return "good", f"Arrived after {steps}: {_every(update)} within {near} px of its target. {on}"
    if update.outcome == "stopped":
        return (
            "note",
            f"Stopped after {steps}, {_to_go(update, numbers)}. Press Start to continue; Undo takes you back.",
        )
    if update.outcome == "max_steps":
        return (
            "note",
            f"Stopped at the limit of {steps}, {_arrivals(update)}{_to_go(update, numbers)}. Press Start to continue; "
            "Undo takes you back.",
        )
    if update.outcome == "diverged":
        return "bad", (
            f"The steps were too large and the picture fell apart after {steps}; the best picture is shown. "
            "Set a smaller step size under Expert and press Start; Undo takes you back."
        )
    if update.outcome is None:
        raise ValueError("the drag goes on; there is nothing to say of its end")
    if update.unsure:
        doubtful = _doubtful(update, f" after {steps}", numbers)
        return "note", f"{doubtful} Keep the picture if it is what you wanted; Undo takes you back."
    return "note", _no_farther(update.outcome, update, session, moved=moved)


_LITTLE_THERE = "There is little to hold on to there. Choose something that stands out, such as an eye or an edge."


def holds_nothing(update: Update) -> bool:
    """Whether a drag of one point has lost it at once, as it does on a bare background."""
    return update.outcome == "lost" and len(update.handles) == 1 and round(100 * update.way_gone) == 0


def _no_farther(outcome: _NoFarther, update: Update, session: Session, *, moved: bool) -> str:
    """How far a drag has gone that stops short of its targets, why, and what to do about it."""
    left, goes_on = f"{_arrivals(update)}{_to_go(update, session.active_numbers)}", _goes_on(session)
    if held := _held_by_mask(session):
        return f"It has gone {_way(update, goes_on=goes_on)}, {left}.{held}"
    if holds_nothing(update) and not goes_on:
        return f"{_LITTLE_THERE}{' Undo takes you back.' if moved else ''}"
    gone = f"{_as_far_as_it_goes(outcome, update, goes_on=goes_on)}, {left}."
    if outcome in ("unlikely", "far"):
        # As long as it is: the line below the picture has room for three.
        return f"{gone} To go farther, raise “{TITLES['max_departure']}” under Expert."
    advice = "Try a closer target" + ("" if session.mask is None else ", a larger painted region")
    advice += f", or “{CHOICES['space']['w' if session.space == 'w+' else 'w+']}”."
    return f"{gone} {advice} Undo takes you back."


def _why_no_farther(outcome: _NoFarther, held: str) -> str:
    """Why a drag goes no farther, as a clause.

    Args:
        held: what it moves, such as "what you hold".
    """
    if outcome == "stalled":
        return "this model makes no picture nearer to that"
    if outcome == "unlikely":
        return "further on, the picture would be unlike any that this model makes"
    if outcome == "far":
        return "your pulls together have changed the picture as much as this model can take"
    if outcome == "lost":
        return f"further on, {held} could no longer be followed"
    assert_never(outcome)


def _as_far_as_it_goes(outcome: _NoFarther, update: Update, *, goes_on: bool = False) -> str:
    """Why a drag has gone no farther, and how much of the way it has gone."""
    why = _why_no_farther(outcome, f"what is under {'the point' if len(update.lost) == 1 else 'a point'}")
    why = f"As far as it goes: {why}" if outcome == "stalled" else why[:1].upper() + why[1:]
    return f"{why}. It has gone {_way(update, goes_on=goes_on)}"


def _way(update: Update, *, goes_on: bool) -> str:
    left = " that was left" if goes_on else ""
    return f"{100 * update.way_gone:.0f} % of the way{left}"


def _goes_on(session: Session) -> bool:
    """Whether the drag that led to this picture went on from where another had ended, with the same points."""
    began_with = len(session.recipe.edits) - 1
    return any(pair.picture is not None and pair.picture < began_with for pair in session.active_pairs)


def _arrived(update: Update) -> Bool[np.ndarray, "n"]:
    """Which points are on their targets for certain."""
    return (update.distances <= update.stop_distance) & ~update.lost


def _share(update: Update) -> str:
    """How many of several points are there."""
    return f"{int(_arrived(update).sum()) or 'None'} of {len(update.distances)}"


def _arrivals(update: Update) -> str:
    """Where there are several points, the beginning of a list: how many are there."""
    return "" if len(update.distances) == 1 else f"{_share(update).lower()} points there, "


def _doubtful(update: Update, when: str, numbers: Sequence[int]) -> str:
    """Of a drag that may have arrived (`Update.unsure`), a sentence on the points of which that is not certain.

    Args:
        when: such as " after 5 steps"; may be empty.
    """
    names = [_name(i, numbers) for i in np.flatnonzero(update.lost).tolist()]
    if update.faded:
        which = "The point" if len(update.lost) == 1 else "The points"
        return f"{which} may have arrived{when}, but the picture has lost too much of its detail to be sure."
    if len(update.lost) == 1:
        return f"The point may have arrived{when}, but it looks too different now to be sure."
    if update.stretched:
        perhaps = "the picture may only have been stretched or squeezed"
        if len(names) == len(update.lost):
            return f"The points may have arrived{when}, but {perhaps} there."
        return f"{_share(update)} points arrived{when}; at point {names[0]} {perhaps}."
    if len(names) == len(update.lost):
        return f"The points may have arrived{when}, but they look too different now to be sure."
    if len(names) == 1:
        return f"{_share(update)} points arrived{when}; point {names[0]} looks too different now to be sure."
    return f"{_share(update)} points arrived{when}; points {_listed(names)} look too different now to be sure."


def _every(update: Update) -> str:
    return "the point is" if len(update.handles) == 1 else "every point is"


def _name(i: int, numbers: Sequence[int]) -> str:
    """What a drag's point is called on the page."""
    return str((numbers[i] if i < len(numbers) else i) + 1)


def _to_go(update: Update, numbers: Sequence[int]) -> str:
    """The distance that is left, of the farthest point where there are several."""
    farthest = int(update.distances.argmax())
    which = "" if len(update.distances) == 1 else f" (point {_name(farthest, numbers)})"
    return f"{update.distances[farthest]:.1f} px to go{which}"


def _at_least(value: float) -> str:
    """Two significant figures, rounded up, so that within it is true."""
    digits = 1 if value >= 9.95 else 10
    return _figure(math.ceil(digits * value - 1e-4) / digits)


def _figure(value: float) -> str:
    """Two significant figures, without an exponent: 0.37, 5.2, 52."""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0") if value >= 0.95 else f"{value:.2g}"
