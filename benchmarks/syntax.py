"""What the project's modules import and define, read from their syntax trees; nothing is imported or run."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "PACKAGES",
    "Import",
    "Module",
    "circles",
    "import_graph",
    "package_graph",
    "private_torch_names",
    "read_modules",
]

# What people install.
PACKAGES = ("draggan", "torch_utils", "dnnlib", "checkpoints", "app")

Graph = Mapping[str, set[str]]


@dataclass(frozen=True)
class Import:
    """One imported name.

    Attributes:
        name: in full, such as ``draggan.geometry.Windows``.
        line: where.
        inside_function: executed when a function is called, not when the module is imported.
    """

    name: str
    line: int
    inside_function: bool


@dataclass(frozen=True)
class Module:
    """One source file.

    Attributes:
        name: dotted, such as ``draggan.ui``.
        path: from the project's folder, such as ``draggan/ui/__init__.py``.
        text: the source.
        tree: its syntax tree.
    """

    name: str
    path: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())

    def imports(self) -> list[Import]:
        """Everything that is imported anywhere in the file, also for type checkers only."""
        return sorted(self._imports(self.tree, False), key=lambda found: (found.line, found.name))

    def _imports(self, node: ast.AST, inside: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, child.lineno, inside) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                origin = self._absolute(child)
                yield from (Import(f"{origin}.{alias.name}", child.lineno, inside) for alias in child.names)
            elif isinstance(child, ast.Call) and (name := _import_module_argument(child)) is not None:
                yield Import(name, child.lineno, inside)
            yield from self._imports(child, inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))

    def _absolute(self, node: ast.ImportFrom) -> str:
        """The module of a ``from`` import; the number of dots of a relative one counts from this module's package."""
        if not node.level:
            return node.module or ""
        package = self.name.split(".") if self.path.endswith("__init__.py") else self.name.split(".")[:-1]
        return ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])

    def classes(self) -> list[ast.ClassDef]:
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef)]


def _import_module_argument(call: ast.Call) -> str | None:
    """The name in ``importlib.import_module("...")``, where it is written out."""
    if not (call.args and ast.unparse(call.func).endswith("import_module")):
        return None
    return _text(call.args[0])


def _text(node: ast.expr) -> str | None:
    """What is written there, if that is a text."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def read_modules(root: Path, packages: Iterable[str] = PACKAGES) -> dict[str, Module]:
    """All modules of these packages (or single files) below a project's folder, by dotted name."""
    found = {}
    for package in packages:
        for path in sorted([*(root / package).rglob("*.py"), *root.glob(f"{package}.py")]):
            inner = path.relative_to(root)
            name = ".".join(inner.with_suffix("").parts).removesuffix(".__init__")
            text = path.read_text(encoding="utf-8")
            found[name] = Module(name, inner.as_posix(), text, ast.parse(text))
    return found


def import_graph(modules: Mapping[str, Module]) -> dict[str, set[str]]:
    """Which of these modules each of them imports, wherever in the file.

    ``from a import b`` is an import of the module ``a.b`` if there is one, otherwise of ``a``. That Python also runs
    the ``__init__`` of the packages above an imported module does not count.
    """
    return {
        name: {target for found in module.imports() if (target := _module_of(found.name, modules)) is not None}
        for name, module in modules.items()
    }


def _module_of(name: str, modules: Mapping[str, Module]) -> str | None:
    parts = name.split(".")
    return next((inner for n in range(len(parts), 0, -1) if (inner := ".".join(parts[:n])) in modules), None)


def package_graph(graph: Graph, depth: int = 2) -> dict[str, set[str]]:
    """The same between packages: modules count as one if the first ``depth`` parts of their names are the same.

    The ``__init__`` of a package whose name is shorter than that stays a module of its own: ``draggan`` is what the
    project exports, and stands above ``draggan.ui``.
    """

    def short(name: str) -> str:
        return ".".join(name.split(".")[:depth])

    found: dict[str, set[str]] = {short(name): set() for name in graph}
    for name, targets in graph.items():
        found[short(name)] |= {short(target) for target in targets} - {short(name)}
    return found


def circles(graph: Graph) -> list[tuple[str, ...]]:
    """Sets of nodes that reach each other, each sorted, also those of a node that names itself (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph.get(node, ())):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            at = stack.index(node)
            members = stack[at:]
            del stack[at:]
            if len(members) > 1 or node in graph.get(node, ()):
                found.append(tuple(sorted(members)))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return sorted(found)


# Attributes of tensors that begin with an underscore.
_TENSOR_PRIVATE = ("_version", "_base", "_cdata", "_backward_hooks", "_grad_fn")


def private_torch_names(module: Module) -> set[str]:
    """PyTorch's private interfaces that a module uses: names with a part that begins with one underscore.

    A name as text counts where it is what `getattr` or `hasattr` asks of ``torch`` or a part of it.
    """
    found = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if name.startswith("torch.") and _is_private(node.attr):
                found.add(name)
            elif node.attr in _TENSOR_PRIVATE:
                found.add(node.attr)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr") and len(node.args) > 1:
            owner, asked = ast.unparse(node.args[0]), _text(node.args[1])
            if owner.split(".")[0] == "torch" and asked is not None and _is_private(asked):
                found.add(f"{owner}.{asked}")
    found |= {
        entry.name
        for entry in module.imports()
        if entry.name.startswith("torch.") and any(_is_private(part) for part in entry.name.split("."))
    }
    return found


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")
