"""An engine: recipes in, updates and pictures out, and nobody is shut out by anybody."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from draggan.config import DragConfig, Limits
from draggan.engine import turns
from draggan.engine.budget import check_budget, samples_per_step
from draggan.engine.computing import _pulled_from
from draggan.engine.frames import EvenFrames
from draggan.engine.local import LocalEngine
from draggan.engine.models import AnyModels, Model
from draggan.engine.pictures import PictureCache
from draggan.engine.running_drag import TurnsLiveDrag
from draggan.engine.scheduler import Scheduler
from draggan.engine.single_steps import Once
from draggan.engine.work import Completion
from draggan.errors import ConfigError, LatentError, LimitError, MaskError, ModelNotFound, PointError, RecipeError
from draggan.generators.base import Generator, Latent
from draggan.generators.blending import Picture
from draggan.pixels import to_uint8
from draggan.recipe import Edit, Mask, ModelReference, Point, Recipe, read_points
from tests.conftest import tiny_stylegan2
from tests.toys import BumpGenerator

BUMP = (20.0, 30.0)
SIZE = (64, 64)


class SlowBump(BumpGenerator):
    """Takes some time for every step; `gate` closed: waits for it."""

    def __init__(self, seconds: float = 0.002) -> None:
        super().__init__([BUMP])
        self.seconds = seconds
        self.gate = threading.Event()
        self.gate.set()
        self.threads: set[str] = set()

    def features(self, ws: Latent, level: str) -> Tensor:
        self.threads.add(threading.current_thread().name)
        self.gate.wait(10)
        time.sleep(self.seconds)
        return super().features(ws, level)


class Few:
    """Models for these tests: what an engine needs of a source."""

    def __init__(self) -> None:
        self.generators: dict[str, Generator] = {
            "bump": SlowBump().freeze(),
            "tiny": tiny_stylegan2(),
            "classes": tiny_stylegan2(c_dim=3, square=False),
        }
        self.hash = "ab" * 32

    def find(self, name: str) -> Model:
        if name not in self.generators:
            raise ModelNotFound(f"there is no model '{name}' here; choose one of the list")
        return Model(name=name, title=name, truncation=0.0 if name == "bump" else 0.7, settings={"step_size": 0.004})

    def load(self, name: str) -> Generator:
        self.find(name)
        return self.generators[name]

    def sha256(self, name: str) -> str:
        return self.hash


@pytest.fixture
def engine():
    engine = LocalEngine(Few())
    yield engine
    engine.close()


def to(x: float, y: float, **settings) -> Edit:
    return Edit(points=read_points([[*BUMP, x, y]], SIZE), settings=settings)


@pytest.fixture
def recipe(engine) -> Recipe:
    return engine.begin("bump", seed=0)


@pytest.fixture
def endless(engine) -> Edit:
    """A drag that does not arrive for a long time."""
    return to(60, 30, step_size=1e-6, max_steps=10000, stall_steps=10000)


def eventually(true, seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.01)
    return bool(true())


# ---- one drag ------------------------------------------------------------------------------------------------------


def test_a_drag_gives_updates_up_to_its_arrival(engine, recipe):
    running = engine.drag(recipe, to(26, 30))
    updates = list(running)
    assert [u.index for u in updates] == sorted({u.index for u in updates})
    assert [u.done for u in updates[:-1]] == [False] * (len(updates) - 1)
    last = updates[-1]
    assert (last.done, last.outcome) == (True, "arrived")
    assert running.result() is last is running.update
    assert running.ended(0)
    assert last.distances.max() <= last.stop_distance
    assert last.seconds > 0
    centre = engine.models.load("bump").centres(torch.from_numpy(last.ws))[0, 0]
    assert np.abs(centre.numpy() - (26, 30)).max() < 1.5
    assert not running.notice


def test_what_was_reached_is_a_recipe_that_gives_the_same_again(engine, recipe):
    running = engine.drag(recipe, to(26, 30))
    running.result()
    reached = running.reached()
    (edit,) = reached.edits
    assert reached.is_complete
    assert edit.recorded is None
    assert edit.settings["step_size"] == 0.004, "what suits the model is written down"
    assert edit.settings["max_steps"] == DragConfig.max_steps
    again = engine.complete(Recipe.from_json(reached.to_json(results=False)))
    assert again == reached
    assert np.array_equal(again.latent, reached.latent)
    assert np.array_equal(engine.picture(reached), engine.picture(reached.with_results([])))


def test_neither_threads_nor_what_ran_before_change_a_bit():
    """On one machine a recipe that is run again gives the same latent."""
    reached = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            engine = LocalEngine(AnyModels("cpu"))
            begun = engine.begin("cat", seed=0)
            width = begun.image_size[1]
            edit = Edit(points=read_points([[0.6 * width, 0.6 * width, 0.5 * width, 0.6 * width]], begun.image_size))
            reached.append(engine.drag(begun, edit))
            reached[-1].result()
    finally:
        torch.set_num_threads(threads)
    first, *others = (one.reached().latent for one in reached)
    assert all(np.array_equal(first, other) for other in others)


def test_edits_follow_one_another(engine, recipe):
    """A second drag looks for what was under its handle in the first picture, and a mask keeps the one it names."""
    first = engine.drag(recipe, to(24, 30)).result()
    handle = tuple(map(float, first.handles[0]))
    allowed = np.ones(SIZE, bool)
    allowed[:, 50:] = False
    second = Edit(
        points=(Point(handle=handle, target=(28, 30), origin=BUMP, picture=0),), mask=Mask(allowed=allowed, picture=0)
    )
    both = recipe.then(to(24, 30)).then(second)
    known = engine.complete(both)
    by_hand = engine.drag(recipe.then(to(24, 30), first.ws), second).result()
    assert np.array_equal(known.latent, by_hand.ws)
    assert len(known.results) == 3
    assert np.array_equal(known.results[1], first.ws)


def test_a_class_and_a_seed_are_a_start(engine):
    a, b = (engine.begin("classes", seed=3, label=label) for label in (0, 2))
    assert not np.array_equal(a.latent, b.latent)
    assert a.start.truncation == 0.7
    assert np.array_equal(engine.complete(a.with_results([])).latent, a.latent)
    for label in (None, 3):
        with pytest.raises(ConfigError, match="the classes 0 to 2"):
            engine.begin("classes", seed=3, label=label)
    with pytest.raises(ConfigError, match="no classes"):
        engine.begin("tiny", seed=3, label=0)
    with pytest.raises(LatentError, match="seed -1"):
        engine.begin("tiny", seed=-1)


def test_previews_are_pictures_of_updates(engine):
    recipe = engine.begin("tiny", seed=1)
    running = engine.drag(recipe, Edit(points=read_points([[10, 12, 14, 12]], (32, 32)), settings={"max_steps": 2}))
    update = running.result()
    assert running.preview_heights[-1] == 32
    for height in running.preview_heights:
        assert running.preview(update, height).shape == (height, height, 3)
    assert engine.picture(running.reached()).shape == (32, 32, 3)


# ---- refused before it begins --------------------------------------------------------------------------------------


def test_a_recipe_runs_on_no_other_weights(engine, recipe):
    assert recipe.model.sha256 == "ab" * 32
    engine.models.hash = "cd" * 32
    with pytest.raises(RecipeError, match="made with other weights: 'bump' here has the SHA-256 cdcdcdcdcdcd"):
        engine.drag(recipe, to(26, 30))
    engine.models.hash = ""
    engine.drag(recipe, to(26, 30)).stop()


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"model": ModelReference(name="nothing")}, ModelNotFound, "no model 'nothing'"),
        ({"image_size": (32, 64)}, RecipeError, "64 x 32 pixels; the model 'bump' draws 64 x 64"),
        ({"start": np.zeros((1, 9, 9), np.float32)}, LatentError, "does not fit"),
    ],
)
def test_a_recipe_that_does_not_fit_the_model_is_refused(engine, recipe, wrong, error, says):
    made = {"model": recipe.model, "image_size": recipe.image_size, "start": recipe.start, **wrong}
    with pytest.raises(error, match=says):
        engine.picture(Recipe(**made))


def test_nothing_to_drag_is_said(engine, recipe):
    with pytest.raises(PointError, match="no points were given"):
        engine.drag(recipe, Edit())


def test_what_goes_wrong_on_the_way_reaches_whoever_watches(engine, recipe):
    nothing = Edit(points=to(26, 30).points, mask=Mask(allowed=np.zeros(SIZE, bool)))
    for watch in (lambda r: r.result(), list, lambda r: r.newer(None, 10)):
        with pytest.raises(MaskError, match="lets nothing change"):
            watch(engine.drag(recipe, nothing))
    with pytest.raises(MaskError, match="lets nothing change"):
        engine.picture(recipe.then(nothing))
    assert engine.drag(recipe, to(26, 30)).result().done, "others are not harmed"


@pytest.mark.parametrize(
    ("limits", "edit", "says"),
    [
        ({"points": 1}, Edit(points=2 * to(26, 30).points), "2 points are too many here; 1 are allowed"),
        ({"steps": 100}, to(26, 30, max_steps=101), "101 steps are too many here; 100 are allowed"),
        (
            {"samples": 1000},
            to(26, 30, r1=64, r2=128),
            "with r1 = 64 and r2 = 128 need 1290 feature vectors",
        ),
    ],
)
def test_more_than_a_visitor_may_have_is_refused_with_what_is_allowed(limits, edit, says):
    engine = LocalEngine(Few(), Limits(**limits))
    recipe = engine.begin("bump", seed=0)
    with pytest.raises(LimitError, match=says):
        engine.drag(recipe, edit)
    with pytest.raises(LimitError, match=says):
        engine.complete(recipe.then(edit))


def test_the_heaviest_drag_known_is_refused_and_everything_usual_is_not():
    """500 points with r1 64, r2 128 took 275 s and 3.5 GB for two steps."""
    heavy = DragConfig(r1=64, r2=128, max_steps=300)
    for limits in (Limits(), Limits.public()):
        with pytest.raises(LimitError):
            check_budget(limits, heavy, points=500, image_size=(128, 128))
        for size in (128, 256, 512, 1024):
            check_budget(limits, DragConfig(), points=20, image_size=(size, size))
    assert samples_per_step(DragConfig(), 1, (512, 512)) == 28 + 25**2


def test_one_visitor_has_so_many_drags_at_once_and_others_have_theirs(recipe, endless):
    engine = LocalEngine(Few(), Limits(drags=2))
    try:
        mine = [engine.drag(recipe, endless, visitor="me") for _ in range(2)]
        with pytest.raises(LimitError, match="2 of your drags are under way, and 2 at once are allowed here; stop one"):
            engine.drag(recipe, endless, visitor="me")
        assert engine.drag(recipe, to(26, 30), visitor="you").result().outcome == "arrived"
        mine[0].stop()
        mine[0].result()
        engine.drag(recipe, endless, visitor="me")
    finally:
        engine.close()


def test_what_a_recipe_lacks_takes_a_place_too_and_counts_in_the_limits_of_a_drag_that_goes_on_from_it(recipe, endless):
    engine = LocalEngine(Few(), Limits(all_drags=1, steps=10000))
    try:
        incomplete = recipe.then(to(26, 30))
        running = engine.drag(recipe, endless, visitor="me")
        with pytest.raises(LimitError, match="too many drags are under way here"):
            engine.complete(incomplete, visitor="you")
        # A latent alone takes none.
        assert engine.complete(recipe.with_results([]), visitor="you").is_complete
        running.stop()
        running.result()
        assert engine.complete(incomplete, visitor="you").is_complete
    finally:
        engine.close()
    engine = LocalEngine(Few(), Limits(steps=100))
    with pytest.raises(LimitError, match="101 steps are too many"):
        engine.drag(recipe.then(to(26, 30, max_steps=101)), to(30, 30))


def test_a_pull_that_goes_on_from_an_incomplete_recipe_steers_itself_alone(engine, recipe):
    slow = to(30, 30, solver="adam")
    complete = engine.complete(recipe.then(slow))
    live = engine.live(recipe.then(slow), Edit(points=read_points([[30, 30, 30, 30], [50, 50, 50, 50]], SIZE)))
    for x in range(200):
        live.retarget([[30 + x % 3, 30], [50, 50]])
        if live.update is not None:
            break
        time.sleep(0.002)
    live.settle()
    live.result()
    np.testing.assert_array_equal(live.reached().results[1], complete.latent)


# ---- stopping ------------------------------------------------------------------------------------------------------


def test_a_stopped_drag_keeps_what_it_has_reached_and_is_recorded(engine, recipe):
    running = engine.drag(recipe, to(60, 30, max_steps=10000))
    assert eventually(lambda: running.update is not None and running.update.index >= 2)
    running.stop()
    last = running.result()
    assert (last.done, last.outcome, running.stopping) == (True, "stopped", True)
    reached = running.reached()
    (edit,) = reached.edits
    assert np.array_equal(edit.recorded, last.ws)
    assert not edit.by_hand
    assert _pulled_from(reached) == 1, "the next pull by hand is measured from here"
    assert np.array_equal(engine.picture(running.reached().with_results([])), engine.picture(running.reached()))


def test_a_drag_that_is_stopped_before_it_begins_ends(engine, recipe, endless):
    engine.models.load("bump").gate.clear()
    running = [engine.drag(recipe, endless) for _ in range(4)]
    for drag in running:
        drag.stop()
    engine.models.load("bump").gate.set()
    for drag in running:
        last = drag.result()
        assert last is None or last.outcome == "stopped"
        assert drag.ended(1)
        assert list(drag) in ([], [last])
        assert drag.reached() == recipe
    assert eventually(lambda: len(engine._scheduler) == 0)


def test_a_drag_that_nobody_looks_at_ends(recipe, endless):
    engine = LocalEngine(Few(), Limits(unwatched=0.3))
    alone, watched = engine.drag(recipe, endless), engine.drag(recipe, endless)
    assert eventually(lambda: watched.newer(None, 0.01) is not None and alone._over, 5)
    assert "nobody has looked at the drag for 0.3 s; it was stopped" in alone.notice
    assert not watched.ended(0)
    watched.stop()
    assert not watched.result() or not watched.notice


def test_a_drag_has_its_seconds(recipe, endless):
    engine = LocalEngine(Few(), Limits(seconds=1.0))
    running = engine.drag(recipe, endless)
    last = running.result()
    assert last.outcome == "stopped"
    assert "has used the 1 s that one may take here; it was stopped, and what it has reached is kept" in running.notice
    assert 0.9 < last.seconds < 2


def test_a_slow_watcher_misses_steps_and_delays_none(engine, recipe, endless):
    running = engine.drag(recipe, endless)
    first = running.newer(None, 10)
    time.sleep(0.5)
    second = running.newer(first, 10)
    assert second.index > first.index + 5
    assert running.newer(second, 0.0) is not None
    running.stop()


# ---- fairness ------------------------------------------------------------------------------------------------------


class Steps:
    """A task of so many steps that take so long by a clock of its own."""

    patient = False

    def __init__(self, clock: list[float], visitor: str, steps: int, seconds: float, done: list[str]) -> None:
        self.visitor, self.urgent, self._clock = visitor, False, clock
        self.steps, self._seconds, self._done = steps, seconds, done

    def step(self):
        self._clock[0] += self._seconds
        self._done.append(self.visitor)
        self.steps -= 1
        return "ready" if self.steps > 0 else "over"

    def check(self) -> None:
        pass


def served(tasks) -> list[str]:
    """In which order the steps of ``(visitor, steps, seconds a step)`` are done by one thread."""
    clock, done = [0.0], []
    scheduler = Scheduler(1, clock=lambda: clock[0])
    gate = Gate()
    scheduler.add(gate)
    gate.began.wait(10)
    for visitor, steps, seconds in tasks:
        scheduler.add(Steps(clock, visitor, steps, seconds, done))
    gate.open.set()
    assert eventually(lambda: len(scheduler) == 0)
    return done


class Gate:
    """Holds the thread until all others are there."""

    visitor, urgent, patient = "gate", False, False

    def __init__(self) -> None:
        self.began, self.open = threading.Event(), threading.Event()

    def step(self):
        self.began.set()
        self.open.wait(10)
        return "over"

    def check(self) -> None:
        pass


def test_what_is_patient_is_done_while_nothing_else_is():
    class Patient(Steps):
        patient = True

    clock, done = [0.0], []
    scheduler = Scheduler(2, clock=lambda: clock[0])
    gate = Gate()
    scheduler.add(gate)
    gate.began.wait(10)
    scheduler.add(Patient(clock, "patient", 2, 1.0, done))
    scheduler.add(Steps(clock, "other", 20, 1.0, done))
    assert eventually(lambda: done == ["other"] * 20), "not even on the thread that is free"
    gate.open.set()
    assert eventually(lambda: len(scheduler) == 0)
    assert done == ["other"] * 20 + ["patient"] * 2


def test_a_thumbnail_is_small_and_is_not_waited_for_for_ever(engine):
    recipe = engine.begin("tiny", seed=3)
    small = engine.thumbnail(recipe, 8, patience=30)
    assert small is not None
    assert small.shape[0] < recipe.image_size[0]
    gates = [Gate(), Gate()]
    for gate in gates:
        engine._scheduler.add(gate)
        gate.began.wait(10)
    assert engine.thumbnail(recipe, 8, patience=0.05) is None
    assert len(engine._scheduler) == len(gates), "given up, it is in nobody's way, though its turn has not come"
    for gate in gates:
        gate.open.set()
    assert eventually(lambda: len(engine._scheduler) == 0)


def in_steps(result, before=()):
    yield from before
    return result()


def test_something_else_is_computed_in_turns_and_fails_where_it_was_asked_for(engine):
    assert engine.in_turns(in_steps(lambda: threading.current_thread().name), visitor="a") == "engine"
    assert eventually(lambda: engine._scheduler._accounts["a"].used > 0)
    with pytest.raises(PointError, match="outside"):
        engine.in_turns(in_steps(lambda: read_points([[0, 0, 99, 0]], SIZE), (None, None)), visitor="a")


def test_between_its_steps_others_have_theirs_and_it_ends_when_nobody_wants_it():
    engine = LocalEngine(Few(), workers=1)
    done, closed, enough = [], threading.Event(), threading.Event()

    def endless():
        try:
            while True:
                time.sleep(0.01)
                done.append("search")
                yield
        finally:
            closed.set()

    with ThreadPoolExecutor(2) as others:
        search = others.submit(engine.in_turns, endless(), visitor="a", wanted=lambda: not enough.is_set())
        assert eventually(lambda: len(done) > 3)
        last = engine.drag(engine.begin("tiny", seed=3), to(26, 30), visitor="b").result()
        assert last is not None
        # The engine has one thread, and the search has never ended.
        assert last.done
        assert not search.done()
        enough.set()
        assert search.result(30) is None
    assert eventually(closed.is_set)
    assert eventually(lambda: len(engine._scheduler) == 0)
    engine.close()


def test_so_many_thumbnails_wait_and_no_more(monkeypatch):
    monkeypatch.setattr(turns, "_MOST_THUMBNAILS", 2)
    engine = LocalEngine(Few(), workers=1)
    recipe, gate = engine.begin("tiny", seed=3), Gate()
    engine._scheduler.add(gate)
    gate.began.wait(10)
    with ThreadPoolExecutor(2) as others:
        waiting = [others.submit(engine.thumbnail, recipe, 8, patience=30) for _ in range(2)]
        assert eventually(lambda: len(engine._scheduler) == 3)
        assert engine.thumbnail(recipe, 8, patience=30) is None, "at once"
        assert len(engine._scheduler) == 3
        gate.open.set()
        assert all(drawn.result(30) is not None for drawn in waiting)
    assert engine.thumbnail(recipe, 8, patience=30) is not None


def test_a_task_is_taken_out_unless_its_step_is_under_way():
    clock, done = [0.0], []
    scheduler = Scheduler(1, clock=lambda: clock[0])
    gate, other = Gate(), Steps(clock, "other", 3, 1.0, done)
    scheduler.add(gate)
    gate.began.wait(10)
    scheduler.add(other)
    scheduler.remove(other)
    scheduler.remove(other)
    scheduler.remove(gate)
    assert len(scheduler) == 1
    gate.open.set()
    assert eventually(lambda: len(scheduler) == 0)
    assert done == []


def test_a_look_that_fails_takes_no_thread_away(caplog):
    class Bad(Steps):
        def check(self) -> None:
            raise ValueError("not meant to happen")

    clock, done = [0.0], []
    scheduler = Scheduler(1, clock=lambda: clock[0])
    scheduler.add(Bad(clock, "bad", 4, 1.0, done))
    assert eventually(lambda: len(scheduler) == 0)
    scheduler.add(Steps(clock, "good", 2, 1.0, done))
    assert eventually(lambda: len(scheduler) == 0)
    assert done == ["bad"] * 4 + ["good"] * 2
    assert "a look at a task has failed" in caplog.text


def test_only_what_is_to_be_computed_counts_in_a_budget(recipe):
    engine = LocalEngine(Few(), Limits(points=1, drags=1))
    two = replace(to(22, 30), points=to(22, 30).points * 2)
    known = recipe.then(two, recipe.latent)
    again = replace(known, results=(None, known.latent))
    assert engine.complete(again).is_complete
    with pytest.raises(LimitError, match="2 points are too many here"):
        engine.complete(recipe.then(two))
    running = engine.drag(recipe, to(62, 62, max_steps=5000, solver="adam", step_size=2e-4), visitor="a")
    with pytest.raises(LimitError, match="1 of your drags are under way"):
        engine.complete(recipe.then(to(22, 30)), visitor="a")
    running.stop()
    running.wait()
    engine.close()


def test_time_is_shared_and_not_steps():
    done = served([("quick", 400, 0.01), ("slow", 40, 0.1)])
    half = done[: len(done) // 2]
    assert abs(half.count("quick") * 0.01 - half.count("slow") * 0.1) <= 0.2


def test_a_visitor_with_many_drags_has_no_more_than_one_with_one():
    done = served([*[("many", 100, 0.01)] * 7, ("one", 100, 0.01)])
    last = max(i for i, visitor in enumerate(done) if visitor == "one")
    assert 190 <= last <= 210


def test_what_is_short_is_over_before_it_waits():
    clock, done = [0.0], []
    scheduler = Scheduler(1, clock=lambda: clock[0])
    gate = Gate()
    scheduler.add(gate)
    gate.began.wait(10)
    short = Steps(clock, "short", 10, 0.1, done)

    class Late(Steps):
        """Begins the short one when the long ones have run for a while."""

        def step(self):
            if self.steps == 50:
                scheduler.add(short)
            return super().step()

    for i in range(8):
        scheduler.add((Late if i == 0 else Steps)(clock, f"long {i}", 100, 0.1, done))
    gate.open.set()
    assert eventually(lambda: len(scheduler) == 0)
    first = done.index("short")
    assert done[first : first + 10] == ["short"] * 10


def test_who_always_comes_back_has_no_credit_left():
    """Short drags one after the other do not keep others from their share."""
    clock, done = [0.0], []
    scheduler = Scheduler(1, clock=lambda: clock[0])
    gate = Gate()
    scheduler.add(gate)
    gate.began.wait(10)

    class Again(Steps):
        def step(self):
            state = super().step()
            if state == "over" and done.count("long") < 200:
                scheduler.add(Again(clock, "again", 5, 0.1, done))
            return state

    scheduler.add(Steps(clock, "long", 200, 0.1, done))
    scheduler.add(Again(clock, "again", 5, 0.1, done))
    gate.open.set()
    assert eventually(lambda: len(scheduler) == 0)
    until = max(i for i, visitor in enumerate(done) if visitor == "long")
    assert done[:until].count("again") <= 200 + 30


def test_pictures_are_drawn_by_turns_as_steps_are(engine, recipe, monkeypatch):
    """However many one visitor asks for: no more at once than there are threads, and another's is not the last."""
    drawing, most, order, lock, gate = 0, 0, [], threading.Lock(), threading.Event()
    whole = engine.computing._pictures.draw

    def draw(*args, **kwargs):
        nonlocal drawing, most
        with lock:
            drawing += 1
            most = max(most, drawing)
        gate.wait(20)
        picture = whole(*args, **kwargs)
        with lock:
            drawing -= 1
        return picture

    def ask(visitor: str) -> None:
        engine.picture(recipe, visitor=visitor)
        order.append(visitor)

    monkeypatch.setattr(engine.computing._pictures, "draw", draw)
    monkeypatch.setattr("draggan.engine.scheduler._CREDIT", 0.0)
    threads = [threading.Thread(target=ask, args=("many",)) for _ in range(20)]
    threads.append(threading.Thread(target=ask, args=("one",)))
    for number, thread in enumerate(threads, 1):
        thread.start()
        assert eventually(lambda number=number: len(engine._scheduler) == number)
    gate.set()
    for thread in threads:
        thread.join()
    assert most <= 2
    assert order.index("one") < 15
    assert engine.under_way == 0


def test_a_picture_that_cannot_be_drawn_is_an_error_where_it_was_asked_for(engine, recipe, monkeypatch):
    def broken(*args, **kwargs):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(engine.computing._pictures, "draw", broken)
        with pytest.raises(MemoryError):
            engine.picture(recipe)
    assert engine.picture(recipe).shape == (64, 64, 3)


class SameForAll(threading.local):
    """A clock by which every step takes 0.1 s, whatever the machine does beside it."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 0.1
        return self.now


def test_eight_long_drags_do_not_keep_a_short_one_from_arriving(engine, recipe, endless, monkeypatch):
    scheduler, turns_of = engine._scheduler, []
    whole = scheduler._give_back

    def give_back(entry, state, seconds):
        turns_of.append(entry.task.visitor)
        whole(entry, state, seconds)

    monkeypatch.setattr(scheduler, "_clock", SameForAll())
    monkeypatch.setattr(scheduler, "_give_back", give_back)
    long = [engine.drag(recipe, endless, visitor=f"v{i}") for i in range(8)]
    assert eventually(lambda: all(drag.update is not None for drag in long))
    assert engine.drag(recipe, to(26, 30), visitor="short").result().outcome == "arrived"
    # Turn by turn: nobody took more steps than the short one meanwhile, but for those that were under way.
    meanwhile = turns_of[turns_of.index("short") : len(turns_of) - turns_of[::-1].index("short")]
    assert all(meanwhile.count(drag.visitor) <= meanwhile.count("short") + 2 for drag in long)
    before = [drag.update.index for drag in long]
    assert eventually(lambda: all(drag.update.index > index for drag, index in zip(long, before, strict=True)))
    for drag in long:
        drag.stop()
    assert all(drag.result().outcome == "stopped" for drag in long)
    assert len(engine.models.load("bump").threads) <= 2


class Together:
    """Rests until it is told, then takes its step only beside the others at the barrier."""

    urgent = patient = False

    def __init__(self, visitor: str, beside: threading.Barrier, *, rests: bool) -> None:
        self.visitor, self.met, self._beside, self._rests = visitor, False, beside, rests

    def step(self):
        if self._rests:
            self._rests = False
            return "resting"
        try:
            self._beside.wait(5)
            self.met = True
        except threading.BrokenBarrierError:
            pass
        return "over"

    def check(self) -> None:
        pass


def test_every_thread_helps_when_there_is_work_for_it():
    scheduler, beside = Scheduler(2), threading.Barrier(2)
    first, second = Together("a", beside, rests=True), Together("b", beside, rests=False)
    scheduler.add(first)
    assert eventually(lambda: scheduler._idle == 1)
    scheduler.add(second)  # for the thread that waits; the next one needs another
    scheduler.wake(first)
    assert eventually(lambda: len(scheduler) == 0)
    assert first.met
    assert second.met


def test_threads_that_could_not_be_started_are_not_counted(monkeypatch, caplog):
    start, refused = threading.Thread.start, [0]

    def started(thread):
        if thread.name == "engine" and refused[0]:
            refused[0] -= 1
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", started)
    engine = LocalEngine(Few())
    recipe = Recipe(model=ModelReference(name="cat"), image_size=(8, 8), start=np.zeros((1, 2, 3), np.float32))
    refused[0] = 2
    for _ in range(2):
        with pytest.raises(LimitError, match="no more threads"):
            engine._admit(Completion(engine, recipe, "a"), [])
    assert (engine.under_way, len(engine._scheduler)) == (0, 0), "nothing was begun"
    gate, after = Gate(), Once("a", lambda: "done")
    engine._scheduler.add(gate)
    gate.began.wait(10)
    # Where there is one already, that does it.
    refused[0] = 1
    engine._scheduler.add(after)
    assert "1 of 2 threads" in caplog.text
    gate.open.set()
    assert after.wait() == "done"


# ---- live ----------------------------------------------------------------------------------------------------------


def test_a_live_drag_follows_its_targets_and_settles(engine, recipe):
    running = engine.live(recipe, to(*BUMP))
    assert running.config.solver == "gauss-newton"
    for x in (22, 25, 28):
        running.retarget([[x, 30]])
        assert eventually(lambda x=x: running.update is not None and abs(running.update.handles[0, 0] - x) < 1.0)
        assert not running.update.done
    running.settle()
    assert running.result().outcome == "arrived"
    reached = running.reached()
    (edit,) = reached.edits
    assert edit.points == (Point(handle=BUMP, target=(28, 30), origin=BUMP, picture=0),)
    assert np.array_equal(edit.recorded, running.update.ws)
    assert edit.by_hand
    assert _pulled_from(reached) == 0
    assert np.array_equal(engine.picture(reached.with_results([])), engine.picture(reached))


def test_live_drags_that_rest_take_no_time_and_no_place(engine, recipe):
    resting = [engine.live(recipe, to(*BUMP), visitor=f"v{i}") for i in range(6)]
    for drag in resting:
        drag.retarget([[23, 30]])
    assert eventually(lambda: all(engine._scheduler._entries[drag].resting for drag in resting))
    used = [drag.seconds for drag in resting]
    assert engine.drag(recipe, to(26, 30)).result().outcome == "arrived"
    assert [drag.seconds for drag in resting] == used
    assert not any(drag.ended(0) for drag in resting)
    # Each wakes when it is told something.
    resting[0].retarget([[26, 30]])
    assert eventually(lambda: abs(resting[0].update.handles[0, 0] - 26) < 1.0)
    resting[1].stop()
    assert resting[1].result().outcome in ("stopped", "arrived")
    resting[2].settle()
    assert resting[2].result().outcome == "arrived"


def test_pulls_that_follow_one_another_lead_together_only_so_far(engine, recipe):
    """Each of them counts from where it began; so do all of them, until a drag comes between."""
    at, outcomes = BUMP, []
    for _ in range(6):
        edit = Edit(points=read_points([[*at, *at]], SIZE), settings={"max_departure": 0.01})
        running = engine.live(recipe, edit)
        running.retarget([(at[0] + 6, at[1])])
        running.settle()
        last = running.result()
        recipe, at = running.reached(), tuple(map(float, last.handles[0]))
        outcomes.append(last.outcome)
    assert outcomes[0] == "arrived"
    assert outcomes[-1] == "far"
    alone = engine.drag(recipe, Edit(points=read_points([[*at, at[0] + 3, at[1]]], SIZE), settings=edit.settings))
    assert alone.result().outcome == "arrived"
    at = tuple(map(float, alone.result().handles[0]))
    running = engine.live(alone.reached(), Edit(points=read_points([[*at, *at]], SIZE), settings=edit.settings))
    running.retarget([(at[0] + 3, at[1])])
    running.settle()
    assert running.result().outcome == "arrived"


def test_targets_that_come_before_it_has_begun_count(engine, recipe):
    engine.models.load("bump").gate.clear()
    running = engine.live(recipe, to(*BUMP))
    running.retarget([[25, 30]])
    running.settle()
    engine.models.load("bump").gate.set()
    assert running.result().outcome == "arrived"
    assert abs(running.update.handles[0, 0] - 25) < 1.5


def test_a_pointer_that_is_nowhere_is_refused_and_the_drag_goes_on(engine, recipe):
    running = engine.live(recipe, to(*BUMP))
    for bad in ([[99, 1]], [[1, 2], [3, 4]], [], [["a", 1]], [None], [[float("nan"), 1]]):
        with pytest.raises(PointError):
            running.retarget(bad)
    running.settle()
    assert running.result().outcome == "arrived"
    assert running.reached() == recipe, "taken hold of and let go again: nothing has happened"


def test_a_pointer_that_says_nothing_for_long_is_let_go(recipe):
    engine = LocalEngine(Few(), Limits(silence=0.3))
    running = engine.live(recipe, to(*BUMP))
    running.retarget([[25, 30]])
    assert eventually(lambda: running.ended(0.01), 5)
    assert running.result().outcome == "arrived"


def test_a_live_drag_may_end_while_its_pointer_moves(engine, recipe):
    class EndsAtOnce(TurnsLiveDrag):
        """Between any two looks at its drag, that is given back."""

        looks = 0

        def __getattribute__(self, name: str):
            if name != "_stepped":
                return super().__getattribute__(name)
            self.looks += 1
            return super().__getattribute__(name) if self.looks == 1 else None

    running = engine.live(recipe, to(*BUMP))
    assert eventually(lambda: running._stepped is not None)
    running.__class__ = EndsAtOnce
    running.retarget([[25, 30]])
    running.looks = 0
    running.settle()
    running.__class__ = TurnsLiveDrag
    assert running.result().outcome == "arrived"


# ---- frames --------------------------------------------------------------------------------------------------------


def test_frames_are_evenly_spaced_and_bounded():
    kept: EvenFrames[int] = EvenFrames(8)
    for i in range(3):
        kept.add(i)
    assert kept.frames == [0, 1, 2]
    for i in range(3, 1000):
        kept.add(i)
        assert len(kept.frames) <= 8
        assert len(set(np.diff(kept.frames))) == 1
        assert kept.frames[0] == 0
    assert len(kept.frames) >= 4


def test_frames_of_a_drag_lead_to_its_end(engine, recipe):
    running = engine.drag(recipe, to(30, 30))
    last = running.result()
    assert np.array_equal(running.frames[0], recipe.latent)
    assert not np.array_equal(running.frames[-1], last.ws)
    assert len(running.frames) <= min(last.index, 32)


# ---- masks -----------------------------------------------------------------------------------------------------------


def _box(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    mask = np.zeros((32, 32), bool)
    mask[top:bottom, left:right] = True
    return mask


def _masked(mask: np.ndarray | None, picture: int | None = None, **settings) -> Edit:
    points = read_points([[12, 12, 14, 12]], (32, 32))
    settings = {"max_steps": 3, "solver": "gauss-newton"} | settings
    return Edit(points=points, mask=None if mask is None else Mask(allowed=mask, picture=picture), settings=settings)


def _reached(engine, recipe, edit):
    running = engine.drag(recipe, edit)
    running.result()
    return running, running.reached()


def test_outside_a_mask_no_picture_changes(engine):
    start = engine.begin("tiny", seed=1)
    mask = _box(4, 20, 4, 22)
    running, reached = _reached(engine, start, _masked(mask))
    first, after = engine.picture(start), engine.picture(reached)
    assert np.array_equal(after[~mask], first[~mask])
    assert not np.array_equal(after[mask], first[mask])
    assert np.array_equal(running.preview(running.update, 32)[~mask], first[~mask])
    for ws in (*running.frames, reached.latent):
        assert np.array_equal(engine.render(reached, ws)[~mask], first[~mask])
    # The recipe alone makes it again, and says that it holds.
    assert reached.edits[0].settings["mask_hold"] == "exact"
    assert np.array_equal(engine.picture(Recipe.from_json(reached.to_json(results=False))), after)
    # The loss alone cannot.
    soft = engine.picture(_reached(engine, start, _masked(mask, mask_hold="soft"))[1])
    assert not np.array_equal(soft[~mask], first[~mask])


def test_what_a_mask_has_held_stays_held(engine):
    start = engine.begin("tiny", seed=1)
    one, two = _box(2, 16, 2, 16), _box(10, 28, 10, 28)
    first, again = engine.picture(start), _reached(engine, start, _masked(one))[1]
    # The mask is still there in the next drag, as it is on the page: painted on picture 0.
    again = _reached(engine, again, _masked(one, picture=0))[1]
    assert np.array_equal(engine.picture(again)[~one], first[~one])
    # Another one is painted on what there is now.
    once = engine.picture(again)
    more = _reached(engine, again, _masked(two))[1]
    assert more.edits[-1].mask.picture == 2
    picture = engine.picture(more)
    assert np.array_equal(picture[~two], once[~two])
    assert np.array_equal(picture[~one & ~two], first[~one & ~two])
    assert np.array_equal(engine.picture(Recipe.from_json(more.to_json(results=False))), picture)
    # An earlier picture is what it was; without a mask everything may change.
    assert np.array_equal(engine.picture(more.up_to(2)), once)
    free = _reached(engine, more, _masked(None))[1]
    plain = engine.models.load("tiny").synthesis(torch.from_numpy(free.latent.copy()))
    assert np.array_equal(engine.picture(free), to_uint8(plain))


def test_a_pull_by_hand_is_held_too(engine):
    start = engine.begin("tiny", seed=1)
    mask = _box(4, 20, 4, 22)
    live = engine.live(start, _masked(mask))
    live.retarget([[15, 12]])
    assert eventually(lambda: live.update is not None and live.update.index > 0)
    live.settle()
    live.result()
    reached = live.reached()
    assert reached.edits[0].recorded is not None
    first = engine.picture(start)
    assert np.array_equal(engine.picture(reached)[~mask], first[~mask])
    assert np.array_equal(engine.picture(Recipe.from_json(reached.to_json(results=False))), engine.picture(reached))


def test_the_outside_of_few_masks_is_kept():
    generator = tiny_stylegan2()
    cache = PictureCache(most=2)
    base = Picture(ws=generator.sample(0))
    masks = [_box(2, 10 + i, 2, 12) for i in range(3)]
    pictures = [Picture(ws=generator.sample(1), mask=mask, base=base) for mask in masks]
    drawn = [cache.draw(generator, picture) for picture in (*pictures, pictures[0])]
    assert len(cache._blends) == 2
    assert torch.equal(drawn[0], drawn[3])
    assert torch.equal(drawn[1], generator.picture(pictures[1]))
