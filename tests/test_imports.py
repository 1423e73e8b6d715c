"""The import rules of the architecture, executable."""

from __future__ import annotations

import ast
import builtins
import subprocess
import symtable
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("draggan", "torch_utils", "dnnlib", "benchmarks")
SOURCES = [*sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")), ROOT / "app.py"]
OURS = ("draggan", "torch_utils", "dnnlib", "benchmarks", "app")


def imports(path: Path) -> set[str]:
    """Full names of everything a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def importers(*modules: str) -> set[str]:
    """Files that import one of these modules."""
    return {
        name_of(path)
        for path in SOURCES
        if any(name == m or name.startswith(m + ".") for name in imports(path) for m in modules)
    }


def ours_imported_by(prefix: str) -> set[str]:
    """Our own modules that files under a prefix import, outside that prefix."""
    own = prefix.removesuffix(".py").replace("/", ".")
    return {
        name
        for path in SOURCES
        if name_of(path).startswith(prefix)
        for name in imports(path)
        if name.split(".")[0] in OURS and not name.startswith(own)
    }


@pytest.mark.parametrize(
    ("modules", "allowed"),
    [
        (("gradio", "gradio_client"), ("app.py", "draggan/ui/")),
        (("pickle", "cloudpickle", "dill", "marshal", "shelve"), ("draggan/checkpoints/", "benchmarks/load.py")),
        (("torch.utils.cpp_extension",), ("torch_utils/custom_ops.py",)),
        (("socket", "ssl", "http", "urllib.request", "requests", "httpx"), ("dnnlib/",)),
    ],
)
def test_a_dangerous_power_has_one_door(modules, allowed):
    assert {name for name in importers(*modules) if not name.startswith(allowed)} == set()


@pytest.mark.parametrize(
    ("prefix", "allowed"),
    [
        ("draggan/errors.py", ()),
        ("draggan/config.py", ("draggan.errors",)),
        ("draggan/points.py", ("draggan.errors",)),
        ("draggan/geometry.py", ("draggan.errors",)),
        ("draggan/session.py", ("draggan.errors", "draggan.config", "draggan.points")),
        ("draggan/images.py", ("draggan.errors",)),
        ("draggan/export.py", ("draggan.errors", "dnnlib")),
        (
            "draggan/drag/",
            (
                "draggan.errors",
                "draggan.config",
                "draggan.points",
                "draggan.geometry",
                "draggan.generators.base",
                "torch_utils.pytorch_internals",
            ),
        ),
        (
            "draggan/generators/",
            ("draggan.errors", "draggan.geometry", "torch_utils.ops", "torch_utils.pytorch_internals"),
        ),
        (
            "draggan/checkpoints/",
            ("draggan.errors", "draggan.generators", "draggan.device", "torch_utils.ops", "dnnlib"),
        ),
        ("torch_utils/", ("draggan.errors", "dnnlib")),
        ("dnnlib/", ("draggan.errors",)),
    ],
)
def test_a_layer_knows_only_those_below(prefix, allowed):
    assert {name for name in ours_imported_by(prefix) if not name.startswith(allowed)} == set()


@pytest.mark.parametrize(
    "prefix", ["draggan/session.py", "draggan/config.py", "draggan/points.py", "draggan/errors.py", "dnnlib/"]
)
def test_what_needs_no_torch_does_not_import_it(prefix):
    assert not {name for name in importers("torch") if name.startswith(prefix)}


# The page, and the benchmark of the page, bring Gradio, whose imports are its own business.
WITH_GRADIO = ("app.py", "draggan/ui/", "benchmarks/page.py", "benchmarks/preview.py")


def test_nothing_happens_on_import(tmp_path):
    """Importing everything starts no thread, opens no socket, writes no file and needs no network or compiler."""
    modules = [
        name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in SOURCES
        if path.name != "__main__.py" and not name_of(path).startswith(WITH_GRADIO)
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
    top = symtable.symtable(source, "module", "exec")
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
    tests = sorted((ROOT / "tests").glob("*.py"))
    found = {name_of(path): unknown_names(path.read_text(encoding="utf-8")) for path in [*SOURCES, *tests]}
    assert {name: unknown for name, unknown in found.items() if unknown} == {}


def test_an_unknown_name_is_found():
    assert unknown_names("from a import b\ndef f(x: 'n') -> b:\n    return lambda: x + c + len(b)\n") == {"c"}


def test_public_names_exist_and_are_sorted():
    import draggan

    assert draggan.__all__ == sorted(draggan.__all__)
    assert all(hasattr(draggan, name) for name in draggan.__all__)
    assert sorted(name for names in draggan._HOMES.values() for name in names) == draggan.__all__
