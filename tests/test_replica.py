"""Replicas take any step of any drag, as the engine of one process would."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import itertools
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from draggan.drag.drag import Drag
from draggan.engine.computing import Facts, LocalComputing
from draggan.engine.models import AnyModels, CatalogueModels
from draggan.engine.remote import RemoteComputing
from draggan.engine.replica import PROTOCOL, Begun, Order, Replica, Sent, SentModels, Taken
from draggan.errors import ModelNotFound
from draggan.recipe import Edit, ModelReference, Recipe, Seed, read_points
from draggan.tuning import Tuning
from tests.model_files import write_tiny_stylegan2


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Sent:
    path = write_tiny_stylegan2(tmp_path_factory.mktemp("models"))
    models = AnyModels("cpu")
    assert str(models.file(path)) == path
    content = [models.file(path).read_bytes()]
    return Sent(name="a visitor's", file="../model one.pkl", sha256=models.sha256(path), content=content)


def replica() -> Replica:
    return Replica(lambda where: where[0], "cpu")


def begun(model: Sent, one: Replica) -> Begun:
    facts = one.facts(model)
    start = Seed(seed=3, truncation=0.7)
    recipe = Recipe(model=ModelReference(name=model.name), image_size=facts.image_size, start=start)
    edit = Edit(points=read_points([[10, 12, 14, 12]], recipe.image_size), settings={"max_steps": 5})
    recipe = recipe.with_results([one.latent(model, start)])
    # With every place and number filled in.
    edit = recipe.then(edit).edits[-1]
    return Begun(recipe=recipe, edit=edit, config=edit.config(), live=False)


def order(model: Sent, what: Begun, index: int, **more) -> Order:
    targets = np.float32([point.target for point in what.edit.points])
    given = {"seconds": 0.0, "state": None, "stopped": False, **more}
    return Order(drag="d", model=model, begun=[what], index=index, targets=targets, live=False, **given)


def test_replicas_take_the_steps_of_a_drag_by_turns(model):
    ours, others = replica(), replica()
    what = begun(model, ours)
    computing = LocalComputing(ours._models)
    drag: Drag = computing.steps(what.recipe, what.edit, what.config, live=False)
    state = None
    turns = itertools.cycle((ours, others))
    for index, step in enumerate(drag):
        one = next(turns)
        if index:
            assert one.step(order(model, what, index)) is None, "it does not know where the drag stands"
        taken = pickle.loads(pickle.dumps(one.step(order(model, what, index, state=state))))
        state = taken.state
        assert len(taken.steps) == 1
        assert np.array_equal(taken.steps[0].ws.numpy(), step.ws.numpy())
        assert (taken.steps[0].done, taken.steps[0].outcome) == (step.done, step.outcome)
        assert taken.stop_distance == drag.stop_distance


def test_a_replica_goes_on_where_it_knows_the_drag_and_takes_several_short_steps(model):
    one = replica()
    what = begun(model, one)
    first = one.step(order(model, what, 0))
    rest = one.step(order(model, what, 1, seconds=600.0))
    assert [step.index for step in (*first.steps, *rest.steps)] == list(range(6))
    assert rest.steps[-1].done


def test_a_model_that_was_sent_is_found_by_the_name_that_its_opener_has(model):
    one = replica()
    what = begun(model, one)
    drawn = one.draw("p", model, [(what.recipe, None)], what.recipe.latent, None, "float32")
    assert drawn.shape[:2] == what.recipe.image_size
    with pytest.raises(ModelNotFound):
        one.facts(Sent(name="nowhere"))


def test_weights_of_a_photo_that_were_sent_are_those_of_the_name_in_the_recipe(model):
    """Which need not be their hash: those that nobody has allowed yet have another one."""
    one = replica()
    what = begun(model, one)
    networks = one._models.load(model.name)
    name = next(iter(networks.tunable_weights))
    weight = dict(networks.synthesis.named_parameters())[name]
    tuning = Tuning(differences={name: np.full(tuple(weight.shape), 0.5, np.float16)})
    drawn = []
    for known_as in (tuning.digest, "ab" * 32):
        recipe = dataclasses.replace(what.recipe, model=ModelReference(name=model.name, tuning=known_as))
        sent = dataclasses.replace(model, tuning=[tuning])
        drawn.append(one.draw(known_as, sent, [(recipe, None)], recipe.latent, None, "float32"))
    plain = one.draw("plain", model, [(what.recipe, None)], what.recipe.latent, None, "float32")
    assert np.array_equal(*drawn)
    assert not np.array_equal(drawn[0], plain)


def test_files_that_were_not_used_for_longest_go_and_are_sent_again(monkeypatch):
    monkeypatch.setattr("draggan.engine.replica._FEWEST", 1)
    monkeypatch.setattr("draggan.engine.replica._MOST_BYTES", 5)
    models = SentModels(lambda where: where[0])
    one, two = (Sent(name=name, file="m.pkl", sha256=name * 64, content=[b"1234"]) for name in "ab")
    for sent in (one, two, one):
        models.receive(sent)
        assert [path.read_bytes() for path in models._files.values()] == [b"1234"]
        assert list(models._files) == [sent.name]
        assert len([path for path in Path(models._folder.name).rglob("*") if path.is_file()]) == 1


def test_of_files_for_replicas_the_last_ones_are_held(tmp_path, monkeypatch):
    class Computing(RemoteComputing):
        def put(self, value):
            return [value]

        def call(self, method, *args, model, run=""):
            return Facts(image_size=(32, 32), preview_heights=(32,), latent=(8, ord(model.name[-1])))

    monkeypatch.setattr("draggan.engine.remote._MOST_BYTES", 5)
    monkeypatch.setattr("draggan.engine.remote._MOST_FACTS", 1)
    computing = Computing(AnyModels("cpu"), slice_seconds=1.0)
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        path.write_bytes(path.name.encode() * 4)
    for path in (*paths, paths[0]):
        assert computing.sent(str(path)).content == [path.read_bytes()]
        assert computing.facts(str(path)).latent == (8, ord(path.name))
        assert (len(computing._contents), len(computing._facts)) == (1, 1)


def test_weights_of_a_photo_are_put_once_for_as_long_as_they_are_here():
    class Computing(RemoteComputing):
        puts = 0

        def put(self, value):
            self.puts += 1
            return self.puts

        def call(self, method, *args, model, run=""):
            return np.full((1, 1, 3), model.tuning, np.uint8)

    computing = Computing(AnyModels("cpu"), slice_seconds=1.0)
    name = computing.tunings.keep(Tuning(differences={"weight": np.ones(3, np.float16)}))
    recipe = Recipe(model=ModelReference(name="cat", tuning=name), image_size=(32, 32), start=Seed(seed=1))
    drawings = [computing.drawing(recipe, None) for _ in range(3)]
    assert all((drawing(np.zeros((1, 1, 1), np.float32)) == 1).all() for drawing in drawings)
    assert computing.puts == 1 + len(drawings)
    computing.tunings.forget(name)
    gc.collect()
    assert len(computing._sent_tunings) == 0


def test_opened_files_that_are_gone_are_no_models_any_more(tmp_path):
    models = CatalogueModels("cpu")
    first, second = (Path(write_tiny_stylegan2(tmp_path / name)) for name in "ab")
    gone = models.open(first)
    first.unlink()
    left = models.open(second)
    assert models.find(left.name) is left
    with pytest.raises(ModelNotFound):
        models.find(gone.name)
    assert list(models._used) == [second]


def test_a_file_that_is_only_here_has_to_be_sent_and_a_listed_model_has_not(tmp_path):
    path = write_tiny_stylegan2(tmp_path)
    models = CatalogueModels("cpu", path)
    (own,) = [model for model in models.listed() if model.group == "files"]
    assert models.listed()[0] is own, "what the page begins with"
    assert str(models.file(own.name)) == path
    assert str(tmp_path) not in repr(own), "everybody is told of it, and nobody where it is"
    assert models.file("cat") is None
    opened = models.open(tmp_path / path.rpartition("/")[2])
    assert str(models.file(opened.name)) == path


def forms(kind: type, seen: dict[str, list[str]]) -> dict[str, list[str]]:
    """Names and annotations of the fields of a dataclass, and of all those that occur in them."""
    if kind.__qualname__ not in seen:
        lines = seen[kind.__qualname__] = [f"{field.name}: {field.type}" for field in dataclasses.fields(kind)]
        known = vars(sys.modules[kind.__module__])
        parts = {known.get(word) for word in re.findall(r"\w+", " ".join(lines))} | set(kind.__subclasses__())
        for part in parts:
            if isinstance(part, type) and dataclasses.is_dataclass(part):
                forms(part, seen)
    return seen


def test_what_processes_say_to_each_other_has_the_form_of_its_number():
    seen: dict[str, list[str]] = {}
    for kind in (Sent, Begun, Order, Taken, Facts):
        forms(kind, seen)
    assert {"DragConfig", "Recipe", "Edit", "DragStep", "DragState", "AdamKept", "GaussNewtonKept"} <= set(seen)
    found = hashlib.sha256(repr(sorted(seen.items())).encode()).hexdigest()[:16]
    assert found == {9: "d33c6b1af0305cc2"}.get(PROTOCOL), (
        "what is sent to replicas has another form now: raise PROTOCOL in draggan/engine/replica.py, and put the new "
        "fingerprint here"
    )
