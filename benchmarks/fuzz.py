"""Made-up requests to a running page, and made-up files to the readers, for as long as one likes.

    python -m benchmarks fuzz [--quick] [--minutes N] [--out FILE]

Half of the time goes to the public endpoints of ``python app.py``, running by itself: values of the right shape and
of any other, and damaged photos and sessions sent to the page. Every answer must be a result or a sentence, soon, and
the page must draw a known picture in between. The other half goes to the readers of model files, photos, films,
sessions, masks, points, settings and recipes: real files with bytes changed, cut and put together anew, and values of
any kind. What is wrong must end in one of our own errors, and a file must not have run anything.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from PIL import Image

from benchmarks import machine
from benchmarks.timing import publish, table
from benchmarks.visitors import Refused, Visitor, pixels_of, same_picture, serving
from draggan.config import DragConfig, choices
from draggan.errors import DragGANError
from draggan.images import read_mask
from draggan.inversion import read_crop, read_photo
from draggan.inversion.frames import Clip
from draggan.recipe import Recipe, read_points, read_settings
from draggan.session_file import read_session_file
from tests import test_hostile_work as work

__all__ = ["main"]

_ROOT = Path(__file__).resolve().parent.parent
_SLOW = 20.0  # seconds in which every request must be answered
# A sentence is no dump: none of these may stand in an answer.
_NEVER = ("Traceback", "object at 0x", "site-packages", "Something unexpected", '{"error": null', str(Path.home()))

_NUMBERS = st.one_of(
    st.integers(),
    st.integers(-2, 300),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([10**400, -(2**63), 2**32, 1e308]),
)
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), _NUMBERS, st.text(max_size=40)),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=12), inner, max_size=5)),
    max_leaves=20,
)
_POINTS = st.one_of(st.lists(st.lists(_NUMBERS, min_size=3, max_size=5), max_size=6), _JSON)
_NAMES = list(DragConfig.__dataclass_fields__)
_SETTINGS = st.one_of(
    st.fixed_dictionaries(
        {"max_steps": st.integers(1, 3)},
        optional={n: st.one_of(_NUMBERS, st.text(max_size=8)) for n in _NAMES if n != "max_steps"},
    ),
    st.dictionaries(st.sampled_from([*_NAMES, "speed", ""]), _JSON, max_size=4),
    _JSON,
)
_MODELS = st.one_of(st.just("cat"), st.sampled_from(["/etc/passwd", "../cat", "https://example.com/x.pkl", ""]), _JSON)
_MASKS = st.one_of(
    st.just(""),
    st.text(max_size=30).map(lambda text: f"data:image/png;base64,{text}"),
    st.sampled_from(["/etc/passwd", "file:///etc/passwd", "data:text/html,<script>"]),
    _JSON,
)


def _number(field: Any) -> st.SearchStrategy[Any]:
    """Values of a setting from end to end of its range."""
    low, high = field.metadata.get("low"), field.metadata.get("high")
    if low is None or high is None:
        return st.just(field.default)
    numbers = st.integers(low, high) if isinstance(field.default, int) else st.floats(low, high)
    return st.one_of(numbers, st.sampled_from([low, high]), st.just(field.default))


# Drags that may be asked for: every setting within its range, odd as they may be together.
_IN_RANGE = st.fixed_dictionaries(
    {"max_steps": st.integers(1, 3), "solver": st.sampled_from(choices(DragConfig)["solver"])},
    optional={
        name: _number(field)
        for name, field in DragConfig.__dataclass_fields__.items()
        if name not in ("max_steps", "solver", "space")
    }
    | {name: st.sampled_from(choices(DragConfig)[name]) for name in ("tracker", "mask_hold", "precision")}
    | {"free_rows": st.integers(1, 14)},
)
_PLACES = st.one_of(st.integers(0, 127), st.floats(0, 127))
_PAIRS = st.lists(st.lists(_PLACES, min_size=4, max_size=4), min_size=1, max_size=8)


def _rectangle(edges: tuple[int, int, int, int]) -> str:
    """A mask that is white in a rectangle, as a data URL."""
    left, right = sorted(edges[:2])
    top, bottom = sorted(edges[2:])
    pixels = np.zeros((128, 128, 4), np.uint8)
    pixels[top : bottom + 1, left : right + 1] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


_EDGES = st.tuples(*[st.integers(0, 127)] * 4)
_DRAGS = st.tuples(
    st.just("cat"),
    st.integers(0, 2**32 - 1),
    _PAIRS,
    st.one_of(st.none(), st.floats(0, 1)),
    st.just(0),
    st.one_of(st.just(""), _EDGES.map(_rectangle)),
    _IN_RANGE,
)
_RECIPES = st.one_of(
    st.fixed_dictionaries(
        {"model": _MODELS},
        optional={
            "seed": _NUMBERS,
            "truncation": _NUMBERS,
            "class": _NUMBERS,
            "points": st.one_of(_PAIRS, _POINTS),
            "mask": st.one_of(_EDGES.map(_rectangle), _MASKS),
            "space": st.sampled_from(["w", "w+", 3]),
            "settings": st.one_of(_IN_RANGE, _SETTINGS),
        },
    ),
    _JSON,
)
_CALLS = {
    "models": st.tuples(),
    "drag ": _DRAGS,
    "/v1/picture": st.tuples(_RECIPES),
    "/v1/drag": st.tuples(_RECIPES),
    "picture": st.tuples(_MODELS, _NUMBERS, st.one_of(st.none(), _NUMBERS), _NUMBERS),
    "drag": st.tuples(_MODELS, st.integers(0, 9), _POINTS, st.none(), st.just(0), _MASKS, _SETTINGS),
}


class Tally:
    """What came of the examples.

    Args:
        until: when to end, of `time.monotonic`.
    """

    def __init__(self, until: float) -> None:
        self.until = until
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.slowest = 0.0

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self.until

    def repeat(self, one: Callable[..., None], *strategies: Any) -> None:
        """Try examples until the time is over."""
        for seed in itertools.takewhile(lambda _: not self.over, itertools.count()):

            @settings(
                max_examples=200,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(st.tuples(*strategies))
            def example(values: tuple[Any, ...]) -> None:
                if not self.over:
                    one(*values)

            seeded(seed)(example)()


def ask(tally: Tally, visitor: Visitor, name: str, values: Sequence[Any]) -> None:
    """One call of an endpoint."""
    began = time.monotonic()
    shown = f"{_title(name)} {json.dumps(values)[:900]}"
    try:
        if name.startswith("/"):
            *_, last = visitor.request("POST", name, json.dumps(*values).encode()).read().splitlines()
            if last.startswith(b'{"error"'):
                raise Refused(200, last.decode())
        else:
            visitor.call(name.strip(), *values)
        tally.counts[f"{_title(name)}: taken"] += 1
    except Refused as refused:
        said = str(refused)
        if refused.status == 429:
            time.sleep(0.5)
        tally.counts[f"{_title(name)}: refused {'in' if len(said) > 10 else 'without'} words"] += 1
        if refused.status >= 500 or len(said) <= 10 or any(never in said for never in _NEVER):
            tally.wrong.append(f"{shown} -> {refused.status} {said}")
    except (OSError, ValueError, TypeError) as error:
        tally.counts[f"{_title(name)}: no answer"] += 1
        tally.wrong.append(f"{shown} -> {error!r}")
    seconds = time.monotonic() - began
    tally.slowest = max(tally.slowest, seconds)
    if seconds > _SLOW:
        tally.wrong.append(f"{shown} took {seconds:.0f} s")


def send(tally: Tally, tab: Visitor, photos: Sequence[bytes], sessions: Sequence[bytes], rng: random.Random) -> None:
    """A damaged photo or session, sent to the page as a browser sends it."""
    handler, content = rng.choice([("photo_sent", rng.choice(photos)), ("open_work", rng.choice(sessions))])
    content = damage(content, rng)
    value = {"count": 1, "name": "a.draggan" if handler == "open_work" else "a.png"}
    try:
        said = json.dumps(tab.page(handler, None, value | {"content": base64.b64encode(content).decode()}))
        refused = '"kind": "bad"' in said or '"error": ' in said.split('"title"')[0]
        tally.counts[f"page, {handler}: {'refused in words' if refused else 'taken'}"] += 1
        if any(never in said for never in _NEVER):
            tally.wrong.append(f"{handler} -> {said[:300]}")
    except Refused as refused:
        tally.counts[f"page, {handler}: refused by the server"] += 1
        if refused.status != 429:
            tally.wrong.append(f"{handler} -> {refused.status} {refused}")
        time.sleep(0.5)


def _title(name: str) -> str:
    return f"/{name.strip()}, every setting in its range" if name.endswith(" ") else f"/{name.lstrip('/')}"


def endpoints(tally: Tally, port: int) -> None:
    """Made-up calls of a running page, with a look at its health in between."""
    visitor = Visitor(port, "127.0.0.1")
    healthy = Visitor(port, "127.0.0.2")
    known = pixels_of(healthy.call("picture", "cat", 7, None, 0))
    calls = st.one_of(*(st.tuples(st.just(name), values) for name, values in _CALLS.items()))
    tab = Visitor(port, "127.0.0.3")
    tab.open()
    tab.page("agree_photo", {"agreed": True})
    photos, sessions = [*_photos().values()], [work.work(), work.tuned(), work.placed()]
    rounds = 0

    def one(call: tuple[str, Sequence[Any]]) -> None:
        nonlocal rounds
        ask(tally, visitor, *call)
        rounds += 1
        if rounds % 4 == 0:
            send(tally, tab, photos, sessions, random.Random(repr(call)))
        if rounds % 50 == 0:
            began = time.monotonic()
            same = same_picture(known, pixels_of(healthy.call("picture", "cat", 7, None, 0)))
            tally.counts["healthy after 50 calls" if same and time.monotonic() - began < _SLOW else "NOT HEALTHY"] += 1

    tally.repeat(one, calls)


def readers(tally: Tally) -> None:
    """Made-up values and damaged files for everything that reads."""
    png = io.BytesIO()
    Image.fromarray(np.full((32, 32), 255, np.uint8)).save(png, "PNG")
    # The readers of files run as a child does: without PyTorch, watched for what they must not do.
    golden = sorted(path for path in (_ROOT / "tests" / "golden").iterdir() if path.suffix in (".pkl", ".pt"))
    files = _FileReader(golden)
    photos = _photos()
    sessions = [work.work(), work.tuned(), work.placed()]
    films = {kind: _film(kind) for kind in ("mp4", "gif", "webp")}

    def values(points: Any, chosen: Any, recipe: Any, mask: bytes, cuts: tuple[int, int, int]) -> None:
        damaged = bytearray(png.getvalue())
        damaged[cuts[0] % len(damaged)] = cuts[1] % 256
        _expect(tally, "points", lambda: read_points(points, (256, 256)))
        _expect(tally, "settings", lambda: read_settings(chosen))
        _expect(tally, "recipe", lambda: Recipe.from_json(json.dumps(recipe)))
        with tempfile.NamedTemporaryFile(suffix=".png") as file:
            file.write(bytes(damaged) if cuts[2] % 2 else mask)
            file.flush()
            _expect(tally, "mask", lambda: read_mask(file.name, (32, 32)))
        rng = random.Random(repr(cuts))
        kind = rng.choice([*photos])
        _expect(tally, f"photo, {kind}", lambda: read_photo(damage(photos[kind], rng)))
        _expect(tally, "session", lambda: read_session_file(damage(rng.choice(sessions), rng)))
        _expect(tally, "crop", lambda: read_crop(recipe))
        if cuts[2] % 32 == 0:
            kind = rng.choice([*films])
            with tempfile.NamedTemporaryFile(suffix=f".{kind}") as file:
                file.write(damage(films[kind], rng))
                file.flush()
                _expect(tally, f"film, {kind}", lambda: Clip(Path(file.name), 4))
        if cuts[2] % 8 == 0:
            verdict = files.read(cuts)
            tally.counts[f"model file: {verdict.split(':')[0]}"] += 1
            if not verdict.startswith(("read", "refused")):
                tally.wrong.append(f"model file {cuts}: {verdict}")

    numbers = st.tuples(st.integers(0, 2**31), st.integers(0, 2**31), st.integers(0, 2**31))
    try:
        tally.repeat(values, _POINTS, _SETTINGS, _JSON, st.binary(max_size=200), numbers)
    finally:
        files.close()


def damage(content: bytes, rng: random.Random) -> bytes:
    """The same with bytes changed, put in or left out, mostly at its beginning; or cut off."""
    data = bytearray(content)

    def place() -> int:
        return rng.randrange(min(4096, len(data)) if rng.random() < 0.5 else len(data))

    kind = rng.randrange(4)
    if kind == 0:
        for _ in range(rng.randrange(1, 9)):
            data[place()] = rng.choice([0, 1, 127, 255, rng.randrange(256)])
    elif kind == 1:
        del data[place() :]
    elif kind == 2:
        at, start = place(), place()
        data[at:at] = data[start : start + rng.randrange(1, 400)]
    else:
        start = place()
        del data[start : start + rng.randrange(1, 400)]
    return bytes(data)


def _photos() -> dict[str, bytes]:
    """A photo of each kind that is read."""
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    photo = Image.fromarray(pixels)
    found: dict[str, bytes] = {}
    for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"):
        file = io.BytesIO()
        with contextlib.suppress(OSError, KeyError):  # AVIF, where Pillow cannot
            photo.save(file, form)
            found[form] = file.getvalue()
    return found


def _film(kind: str) -> bytes:
    """A short film."""
    frames = [np.full((32, 32, 3), 60 * number, np.uint8) for number in range(4)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{kind}"
        if kind == "mp4":
            iio.imwrite(path, frames, fps=10, plugin="FFMPEG")
        else:
            first, *rest = map(Image.fromarray, frames)
            first.save(path, save_all=True, append_images=rest, duration=100)
        return path.read_bytes()


def _expect(tally: Tally, what: str, read: Callable[[], Any]) -> None:
    try:
        read()
        tally.counts[f"{what}: read"] += 1
    except DragGANError as error:
        tally.counts[f"{what}: refused in words"] += 1
        if any(never in str(error) for never in _NEVER[:3]):
            tally.wrong.append(f"{what}: {str(error)[:200]}")
    except Exception as error:  # noqa: BLE001  # that is what is looked for
        tally.counts[f"{what}: BROKEN"] += 1
        tally.wrong.append(f"{what}: {error!r}"[:300])


class _FileReader:
    """Reads damaged copies of model files in a process of its own, as long as that lives.

    Args:
        golden: the files to damage.
    """

    _PROGRAM = """
import json, random, sys, types
sys.path.insert(0, {root!r})
package = types.ModuleType("draggan")
package.__path__ = [{root!r} + "/draggan"]
sys.modules["draggan"] = package
from draggan.checkpoints.detect import describe_bytes
from draggan.errors import DragGANError
contents = [open(path, "rb").read() for path in {paths!r}]
def hook(event, arguments):
    if event.startswith(("os.system", "subprocess.", "os.exec", "os.fork", "socket.", "pickle.find_class")):
        print("EXECUTED: " + event, flush=True)
sys.addaudithook(hook)
for line in sys.stdin:
    a, b, c = json.loads(line)
    r = random.Random(f"{{a}} {{b}} {{c}}")
    data = bytearray(r.choice(contents))
    kind = r.randrange(4)
    # Mostly where the program is, not in the tensors.
    ends = [min(4096, len(data)) if r.random() < 0.7 else len(data) for _ in range(r.randrange(1, 9))]
    places = [r.randrange(end) for end in ends]
    if kind == 0:
        for place in places: data[place] = r.randrange(256)
    elif kind == 1:
        del data[places[0]:]
    elif kind == 2:
        start = places[0]; data[start:start] = data[places[-1]:places[-1] + r.randrange(1, 400)]
    else:
        start = places[0]; del data[start:start + r.randrange(1, 400)]
    try:
        describe_bytes(memoryview(bytes(data)))
        print("read", flush=True)
    except DragGANError as error:
        print("refused: " + str(error)[:100].replace(chr(10), " "), flush=True)
    except BaseException as error:
        print("BROKEN: " + repr(error)[:200].replace(chr(10), " "), flush=True)
"""

    def __init__(self, golden: Sequence[Path]) -> None:
        self._code = self._PROGRAM.format(root=str(_ROOT), paths=[str(path) for path in golden])
        self._begin()

    def _begin(self) -> None:
        command = [sys.executable, "-I", "-B", "-c", self._code]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def read(self, cuts: tuple[int, int, int]) -> str:
        """What came of a file damaged like that."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(cuts) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline().strip()
        if not line:
            code = self._process.wait()
            self._begin()
            return f"ENDED: the process, with {code}"
        return line

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def main(argv: Sequence[str] | None = None) -> int:
    """Try; the table goes to standard output, and into a file with ``--out``. 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks fuzz", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="twenty seconds")
    parser.add_argument("--minutes", type=float, default=20.0, help="in all (default: %(default)g)")
    parser.add_argument("--port", type=int, default=7991)
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args(argv)
    seconds = 20.0 if options.quick else 60 * options.minutes
    here = machine.describe()
    with serving(port=options.port):
        page = Tally(time.monotonic() + seconds / 2)
        endpoints(page, options.port)
    files = Tally(time.monotonic() + seconds / 2)
    readers(files)
    rows: list[list[object]] = [[what, count] for what, count in sorted((page.counts + files.counts).items())]
    wrong = page.wrong + files.wrong
    lines = [
        "# Made-up requests and files",
        "",
        "`python -m benchmarks fuzz`; see benchmarks/fuzz.py for what is tried.",
        "",
        f"{here.markdown()}. {seconds:.0f} s; the slowest answer took {page.slowest:.1f} s.",
        "",
        table(["", "times"], rows),
        "",
        f"Wrong: {len(wrong)}.",
        *(f"- {what}" for what in wrong[:30]),
    ]
    publish("\n".join(lines), options.out)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
