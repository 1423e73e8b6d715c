"""The import rules of the architecture, executable."""

from __future__ import annotations

import ast
import builtins
import subprocess
import symtable
import sys
from pathlib import Path

import pytest

from benchmarks.house import COMMANDS
from benchmarks.syntax import (
    PACKAGES,
    Module,
    circles,
    import_graph,
    package_graph,
    private_torch_names,
    read_modules,
)

ROOT = Path(__file__).parent.parent
OURS = (*PACKAGES, "benchmarks")
MODULES = read_modules(ROOT, OURS)
INSTALLED = {name: module for name, module in MODULES.items() if not name.startswith("benchmarks")}
GRAPH = import_graph(INSTALLED)


def importers(*modules: str) -> set[str]:
    """Files that import one of these modules."""
    return {
        module.path
        for module in MODULES.values()
        if any(found.name == m or found.name.startswith(m + ".") for found in module.imports() for m in modules)
    }


def ours_imported_by(prefix: str) -> set[str]:
    """Our own modules that files under a prefix import, outside that prefix."""
    own = prefix.removesuffix(".py").replace("/", ".")
    return {
        found.name
        for module in MODULES.values()
        if module.path.startswith(prefix)
        for found in module.imports()
        if found.name.split(".")[0] in OURS and not found.name.startswith(own)
    }


def test_no_module_imports_itself_by_way_of_others():
    """At the top of a file or inside a function, for running or for type checkers: there is no circle of modules."""
    assert circles(GRAPH) == []


def test_packages_do_not_import_each_other_in_circles():
    assert circles(package_graph(GRAPH, depth=2)) == []
    assert circles(package_graph(GRAPH, depth=1)) == []


def test_what_stands_below_does_not_import_draggan():
    below = {module.path for module in INSTALLED.values() if module.path.startswith(("torch_utils/", "dnnlib/"))}
    assert importers("draggan") & below == set()


def test_private_interfaces_of_pytorch_are_used_in_one_module_only():
    users = {module.path for module in INSTALLED.values() if private_torch_names(module)}
    assert users == {"torch_utils/pytorch_internals.py"}


def test_only_commands_import_our_own_modules_inside_functions():
    """There a start must not wait for PyTorch or Gradio, and the doctor looks at broken installations."""
    late = {
        module.path
        for module in INSTALLED.values()
        if any(found.inside_function and found.name.split(".")[0] in OURS for found in module.imports())
    }
    assert {path for path in late if not path.startswith(COMMANDS)} == set()


def test_imports_are_absolute():
    relative = [
        (module.path, node.lineno)
        for module in MODULES.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def module(name: str, text: str, *, package: bool = False) -> Module:
    path = name.replace(".", "/") + ("/__init__.py" if package else ".py")
    return Module(name, path, text, ast.parse(text))


def test_circles_are_found_wherever_the_import_stands():
    """Of modules that import each other at the top, inside a function, relatively, by a call, and for types only."""
    texts = {
        "a": "import a.b",
        "a.b": "from a import c",
        "a.c": "class C:\n    def f(self):\n        from .d import g",
        "a.d": "import importlib\ndef g():\n    return importlib.import_module('a.e')",
        "a.e": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a.b import Thing",
        "a.f": "import a.b, os",
    }
    modules = {name: module(name, text, package=name == "a") for name, text in texts.items()}
    graph = import_graph(modules)
    assert graph["a.f"] == {"a.b"}
    assert circles(graph) == [("a.b", "a.c", "a.d", "a.e")]
    assert circles(import_graph({"x": module("x", "def f():\n    import x")})) == [("x",)]


def test_a_circle_of_packages_is_found_where_no_module_is_in_one():
    texts = {"a.x.one": "import a.y.one", "a.y.one": "", "a.y.two": "import a.x.two", "a.x.two": ""}
    graph = import_graph({name: module(name, text) for name, text in texts.items()})
    assert circles(graph) == []
    assert circles(package_graph(graph)) == [("a.x", "a.y")]


def test_private_names_of_pytorch_are_found():
    text = (
        "import torch\nfrom torch._C import f\ntorch._C.g()\nx._version\nhasattr(torch.cuda, '_h')\ntorch.__version__"
    )
    assert private_torch_names(module("m", text)) == {"torch._C", "torch._C.f", "_version", "torch.cuda._h"}


@pytest.mark.parametrize(
    ("modules", "allowed"),
    [
        (("gradio", "gradio_client"), ("app.py", "draggan/ui/")),
        (("pickle", "cloudpickle", "dill", "marshal", "shelve"), ("draggan/checkpoints/", "benchmarks/load.py")),
        (
            ("fastapi", "starlette", "uvicorn", "websockets"),
            ("draggan/service/", "draggan/ui/", "benchmarks/service.py"),
        ),
        (("torch.utils.cpp_extension",), ("torch_utils/ops/build.py",)),
        (
            ("socket", "ssl", "http", "urllib.request", "requests", "httpx", "huggingface_hub"),
            ("dnnlib/", "benchmarks/visitors.py", "benchmarks/ray.py"),
        ),
    ],
)
def test_a_dangerous_power_has_one_door(modules, allowed):
    assert {name for name in importers(*modules) if not name.startswith(allowed)} == set()


BELOW = ("draggan.errors", "draggan.config", "draggan.geometry", "torch_utils", "dnnlib")


@pytest.mark.parametrize(
    ("prefix", "allowed"),
    [
        ("draggan/errors.py", ()),
        ("draggan/config.py", ("draggan.errors",)),
        ("draggan/points.py", ("draggan.errors",)),
        ("draggan/geometry/", ("draggan.errors", "torch_utils")),
        ("draggan/recipe.py", ("draggan.errors", "draggan.config", "draggan.points")),
        ("draggan/session.py", ("draggan.errors", "draggan.config", "draggan.points", "draggan.recipe")),
        ("draggan/kept_session.py", ("draggan.errors", "draggan.recipe", "draggan.session")),
        ("draggan/images.py", ("draggan.errors",)),
        ("draggan/pixels.py", ()),
        ("draggan/film.py", ("draggan.recipe",)),
        ("draggan/reel.py", ()),
        ("draggan/sentences.py", ()),
        ("draggan/downloads.py", ("draggan.checkpoints.catalogue",)),
        ("draggan/moderation/", ("draggan.errors", "draggan.images", "draggan.reel", "dnnlib")),
        ("draggan/provenance/audit.py", ("draggan.errors", "draggan.recipe", "dnnlib")),
        (
            "draggan/provenance/deployment.py",
            (
                *("draggan.errors", "draggan.recipe", "draggan.checkpoints.catalogue", "draggan.moderation"),
                *("draggan.provenance.audit", "dnnlib"),
            ),
        ),
        (
            "draggan/export.py",
            ("draggan.errors", "draggan.images", "draggan.provenance", "draggan.recipe", "draggan.reel", "dnnlib"),
        ),
        (
            "draggan/provenance/credentials.py",
            ("draggan.errors", "draggan.provenance.metadata", "draggan.recipe", "dnnlib"),
        ),
        ("draggan/provenance/metadata.py", ("draggan.recipe",)),
        ("draggan/provenance/watermark.py", ()),
        ("draggan/provenance/trustmark.py", ("draggan.errors", "draggan.provenance.watermark")),
        (
            "draggan/provenance/marks.py",
            ("draggan.errors", "draggan.provenance.trustmark", "draggan.provenance.watermark", "dnnlib"),
        ),
        (
            "draggan/provenance/verify.py",
            (
                *("draggan.errors", "draggan.recipe", "draggan.provenance.audit", "draggan.provenance.credentials"),
                *("draggan.provenance.marks", "draggan.provenance.metadata", "draggan.provenance.watermark"),
                "draggan.program",
            ),
        ),
        (
            "draggan/drag/",
            (
                "draggan.errors",
                "draggan.config",
                "draggan.points",
                "draggan.geometry",
                "draggan.generators.base",
                "draggan.generators.blending",
                "torch_utils.pytorch_internals",
                "torch_utils.recorder",
                "torch_utils.transfer",
            ),
        ),
        ("draggan/generators/", ("draggan.errors", "draggan.geometry", "torch_utils")),
        (
            "draggan/checkpoints/",
            (
                *("draggan.errors", "draggan.config", "draggan.generators", "draggan.device", "draggan.program"),
                *("torch_utils", "dnnlib"),
            ),
        ),
        ("draggan/scenes/", (*BELOW, "draggan.device", "draggan.generators")),
        (
            "draggan/engine/",
            (
                *BELOW,
                *("draggan.checkpoints", "draggan.drag", "draggan.generators.base", "draggan.generators.blending"),
                *("draggan.downloads", "draggan.images", "draggan.points", "draggan.recipe", "draggan.suggestions"),
                *("draggan.generators.tuned", "draggan.inversion", "draggan.pixels", "draggan.tuning"),
            ),
        ),
        ("draggan/tuning.py", ("draggan.errors",)),
        (
            "draggan/inversion/",
            (
                *("draggan.errors", "draggan.config", "draggan.images", "draggan.photo", "draggan.tuning"),
                *("draggan.generators.base", "draggan.generators.tuned", "draggan.drag.latent_statistics"),
                # The encoders' files, and their training.
                *(
                    "draggan.checkpoints",
                    "draggan.scenes",
                    "draggan.small_networks",
                    "draggan.small_training",
                    "dnnlib",
                ),
                *("draggan.landmarks", "draggan.geometry", "draggan.pixels", "draggan.reel"),
            ),
        ),
        ("draggan/small_networks.py", ("draggan.errors", "dnnlib")),
        ("draggan/small_training.py", ("draggan.errors", "draggan.scenes", "draggan.small_networks", "dnnlib")),
        (
            "draggan/session_file.py",
            ("draggan.errors", "draggan.kept_session", "draggan.recipe", "draggan.session", "draggan.tuning", "dnnlib"),
        ),
        (
            "draggan/batch/",
            (
                *("draggan.errors", "draggan.config", "draggan.device", "draggan.engine", "draggan.export"),
                *("draggan.kept_session", "draggan.recipe", "dnnlib"),
            ),
        ),
        (
            "draggan/datasets/",
            (
                *(
                    "draggan.config",
                    "draggan.errors",
                    "draggan.export",
                    "draggan.recipe",
                    "draggan.scenes",
                    "draggan.batch.jobs",
                ),
                *("draggan.landmarks", "dnnlib"),
            ),
        ),
        # The page knows models and drags only through the engine.
        (
            "draggan/ui/",
            (
                *(
                    "draggan.errors",
                    "draggan.config",
                    "draggan.images",
                    "draggan.export",
                    "draggan.checkpoints.catalogue",
                    "draggan.film",
                    "draggan.inversion",
                ),
                *("draggan.downloads", "draggan.recipe", "draggan.session", "draggan.kept_session", "draggan.engine"),
                *("draggan.sentences", "draggan.service.app", "draggan.service.answers"),
                *("draggan.provenance", "draggan.moderation"),
            ),
        ),
        (
            "draggan/service/",
            (
                *("draggan.errors", "draggan.config", "draggan.images", "draggan.export", "draggan.recipe"),
                *("draggan.sentences", "draggan.engine"),
                *("draggan.provenance.deployment", "draggan.provenance.verify"),
            ),
        ),
        ("torch_utils/", ("dnnlib",)),
        ("dnnlib/", ()),
    ],
)
def test_a_layer_knows_only_those_below(prefix, allowed):
    assert {name for name in ours_imported_by(prefix) if not name.startswith(allowed)} == set()


@pytest.mark.parametrize(
    ("module", "above"),
    [
        ("draggan.ui", ("app.py", "draggan/cli")),
        (
            "draggan.engine",
            ("app.py", "draggan/cli", "draggan/ui/", "draggan/evaluation/", "draggan/batch/", "draggan/service/"),
        ),
        ("draggan.service", ("draggan/ui/",)),
        ("draggan.batch", ("draggan/cli", "draggan/datasets/")),
        ("draggan.datasets", ("draggan/cli",)),
        ("draggan.cli", ("app.py", "draggan/__main__.py")),
        ("draggan.evaluation", ("draggan/cli", "draggan/datasets/")),
        ("draggan.doctor", ("draggan/cli",)),
        ("app", ("draggan/cli",)),
        ("benchmarks", ()),
    ],
)
def test_nothing_imports_upwards(module, above):
    own, exports = module.replace(".", "/"), "draggan/__init__.py"
    users = {path for path in importers(module) if path.split("/")[0] != "benchmarks" and not path.startswith(own)}
    assert {path for path in users - {exports} if not path.startswith(above)} == set()


def test_the_package_does_not_use_its_own_public_interface():
    """`draggan` offers what its modules hold; a module that asked it back would import everything."""
    assert {name for name, targets in GRAPH.items() if "draggan" in targets} == set()


NUMPY_ONLY = (
    "draggan/session.py",
    "draggan/kept_session.py",
    "draggan/recipe.py",
    "draggan/points.py",
    "draggan/tuning.py",
    "draggan/config.py",
    "draggan/errors.py",
)


def test_values_need_nothing_but_numpy():
    found = {
        found.name.split(".")[0]
        for module in MODULES.values()
        if module.path in NUMPY_ONLY
        for found in module.imports()
    }
    assert found - set(sys.stdlib_module_names) <= {"numpy", "jaxtyping", "draggan"}


def below(name: str) -> set[str]:
    """A module and all of ours that it imports, also by way of others."""
    found, left = set(), [name]
    while left:
        if (module := left.pop()) not in found:
            found.add(module)
            left += GRAPH[module]
    return found


def test_downloads_need_no_torch():
    assert not {name for name in importers("torch") if name.startswith("dnnlib/")}


@pytest.mark.parametrize(
    "name", ["export", "session_file", "provenance.verify", "provenance.deployment", "moderation.check", "terminal"]
)
def test_files_are_written_and_checked_without_torch(name):
    """So `draggan verify`, and a mistake in a command's options, need not wait for it."""
    with_torch = {INSTALLED[module].path for module in below(f"draggan.{name}")} & importers("torch")
    assert with_torch == set()


# The page, and the benchmark of the page, bring Gradio, whose imports are its own business.
WITH_GRADIO = ("app.py", "draggan/ui/", "benchmarks/page.py", "benchmarks/preview.py")


def test_nothing_happens_on_import(tmp_path):
    """Importing everything starts no thread, opens no socket, writes no file and needs no network or compiler."""
    modules = [
        name
        for name, module in MODULES.items()
        if not name.endswith("__main__") and not module.path.startswith(WITH_GRADIO)
    ]
    code = (
        "import sys, threading, pathlib, importlib\n"
        "import torch\n"
        "def refuse(event, args):\n"
        "    if event in ('socket.connect', 'socket.bind', 'subprocess.Popen', 'os.mkdir', 'os.remove'):\n"
        "        raise SystemExit(f'{event} {args}')\n"
        "    if event == 'open' and isinstance(args[1], str) and set(args[1]) & set('wax+') "
        "and 'pycache' not in str(args[0]) and str(args[0]) != '/dev/null':\n"
        "        raise SystemExit(f'{event} {args}')\n"
        "sys.addaudithook(refuse)\n"
        "before = threading.active_count()\n"
        f"for m in {modules!r}: importlib.import_module(m)\n"
        "assert threading.active_count() == before\n"
        "assert 'gradio' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        cwd=ROOT,
        env={"HOME": str(tmp_path), "PATH": "", "DRAGGAN_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def unknown_names(source: str) -> set[str]:
    """What a module refers to and neither defines nor imports; strings, such as shapes in annotations, do not count."""
    # With that import no name of an annotation would be among the symbols.
    top = symtable.symtable(source.replace("from __future__ import annotations", ""), "module", "exec")
    known = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    known |= {*dir(builtins), "__file__"}
    found, tables = set(), [top]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        used = (s for s in table.get_symbols() if s.is_referenced() and (s.is_global() or table is top))
        found |= {s.get_name() for s in used} - known
    return found


def test_every_name_is_known():
    """The linters have to pass over unknown names: a shape of one axis, ``Float[Tensor, "n"]``, is one to them."""
    texts = {module.path: module.text for module in (MODULES | read_modules(ROOT, ["tests"])).values()}
    found = {path: unknown_names(text) for path, text in texts.items()}
    assert {name: unknown for name, unknown in found.items() if unknown} == {}


def bound_names(tree: ast.Module) -> set[str]:
    """Variables, parameters and attributes that a module gives a value."""
    nodes = [*ast.walk(tree)]
    names = {node.arg for node in nodes if isinstance(node, ast.arg)}
    names |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}


# Rooms that know no `draggan.session`; with that file, Gradio's own table of what it calls so is replaced.
WITHOUT_SESSIONS = (
    "draggan/engine/",
    "draggan/provenance/",
    "draggan/export.py",
    "draggan/service/",
    "draggan/ui/server/",
)
GRADIOS = "draggan/ui/server/session_states.py"


def test_a_session_is_somebodys_work_and_nothing_else():
    """Tabs, visits and runs have names of their own (docs/architecture.md, "Words for who asks")."""
    found = {
        module.path
        for module in INSTALLED.values()
        if module.path.startswith(WITHOUT_SESSIONS) and "session" in bound_names(module.tree)
    }
    assert found == {GRADIOS}


def test_bound_names_are_found():
    tree = ast.parse("a = b\ndef f(c, *, d=1):\n    self.e = g.h\nclass C:\n    i: int = 0\n")
    assert bound_names(tree) == {"a", "c", "d", "e", "i"}


def test_an_unknown_name_is_found():
    assert unknown_names("from a import b\ndef f(x: 'n') -> b:\n    return lambda: x + c + len(b)\n") == {"c"}
    assert unknown_names("from __future__ import annotations\ndef f(x: a[int, 'n']) -> b:\n    pass\n") == {"a", "b"}


def test_public_names_exist_and_are_sorted():
    import draggan

    assert draggan.__all__ == sorted(draggan.__all__)
    assert all(hasattr(draggan, name) for name in draggan.__all__)
    assert sorted(name for names in draggan._HOMES.values() for name in names) == draggan.__all__
