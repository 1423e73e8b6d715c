"""How the code is put together, before and after a change: circles, late imports, sizes, what is stated twice.

Counted from the syntax trees of two folders; nothing in them is run. What no syntax tree tells (which definitions cut
windows, in which forms a click point travels) is listed here by name, found by reading, and counted where it exists::

    git worktree add ../before COMMIT
    python -m benchmarks house --before ../before --out benchmarks/house.md
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.syntax import (
    PACKAGES,
    Module,
    circles,
    import_graph,
    package_graph,
    private_torch_names,
    read_modules,
)
from benchmarks.timing import publish

__all__ = ["House", "definitions", "main", "range_statements"]

Modules = Mapping[str, Module]

# Commands import what needs PyTorch or Gradio when they run, so that `draggan --help` does not wait for it, and so that
# the doctor can look at broken installations.
COMMANDS = ("app.py", "draggan/cli", "draggan/doctor.py", "draggan/evaluation/command.py")
# Things that no syntax tree tells, and the definitions, by module and name, that make one: the same may have had
# another name or place before.
Things = Mapping[str, Sequence[tuple[str, str]]]

# What cuts windows out of a map, or out of windows of one, each with its adjoint.
WINDOW_CUTS: Things = {
    "for automatic differentiation": [("draggan.geometry", "_Crop")],
    "by slices": [("draggan.generators.frozen", "_Cut"), ("draggan.geometry.windows", "SlicedCrop")],
    "by indices": [("draggan.generators.steady", "_SteadyCut"), ("draggan.geometry.windows", "IndexedCrop")],
    "out of windows": [("draggan.generators.local3", "_gathered")],
}
# What puts several windows into a larger one where that costs less.
WINDOW_GROUPINGS: Things = {
    "around points": [("draggan.geometry", "cover")],
    "of StyleGAN3": [("draggan.generators.local3", "_grouped")],
    "of any": [("draggan.geometry.windows", "cheapest_grouping")],
}
# The forms in which a click point exists between the canvas and the picture after the drag.
POINT_FORMS: Things = {
    "message of the canvas": [("draggan.ui.canvas", "CanvasValue"), ("draggan.ui.canvas.value", "CanvasValue")],
    "pairs of numbers read from it": [("draggan.ui.canvas", "read_canvas"), ("draggan.ui.canvas.value", "read_canvas")],
    "point of session and recipe": [("draggan.session", "Pair"), ("draggan.recipe", "Point")],
    "arguments of a drag": [("draggan.session", "DragArguments")],
    "option of the command line": [("draggan.cli", "_point_pair"), ("draggan.cli.drag", "_point_pair")],
    "argument of Drag": [("draggan.drag.engine", "PointsLike"), ("draggan.drag.prepare", "PointsLike")],
    "reference of a continued drag": [("draggan.drag.engine", "Reference"), ("draggan.drag.prepare", "Reference")],
    "tensors of the problem": [("draggan.drag.problem", "Problem")],
    "proposed or tracked position": [("draggan.drag.solver", "Proposal"), ("draggan.drag.tracking", "Tracked")],
    "step of a drag": [("draggan.drag.engine", "DragStep"), ("draggan.drag.step", "DragStep")],
    "update of an engine": [("draggan.engine.base", "Update")],
}
# What checks the numbers of a point that comes from outside.
POINT_CHECKS: Things = {
    "canvas": [("draggan.ui.canvas", "_numbers")],
    "session": [("draggan.session", "_inside")],
    "drag": [("draggan.drag.engine", "_points")],
    "recipe: two numbers": [("draggan.recipe", "_numbers")],
    "everybody: on the picture": [("draggan.points", "check_points")],
}
# Sizes and options of the published networks.
NETWORK_FIELDS = frozenset(
    {
        "z_dim",
        "c_dim",
        "w_dim",
        "img_resolution",
        "img_channels",
        "channel_base",
        "channel_max",
        "conv_clamp",
        "num_layers",
        "num_critical",
        "first_cutoff",
        "first_stopband",
        "last_stopband_rel",
        "margin_size",
        "output_scale",
        "conv_kernel",
        "filter_size",
        "lrelu_upsampling",
        "cmap_dim",
        "mbstd_group_size",
        "mbstd_num_channels",
        "embed_features",
        "layer_features",
        "lr_multiplier",
        "w_avg_beta",
    }
)


def definitions(module: Module) -> set[str]:
    """Names of the functions, classes, methods and aliases that a module defines."""
    found = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def range_statements(module: Module) -> list[tuple[str, int]]:
    """Where a module states what values a network's field may have: the field, and the line.

    That is a call with at least two numbers that belongs to the field: the value of an entry of that name in a
    dictionary, of a dataclass field of that name, or a call whose first argument is the name.
    """
    ranges = {
        target.id
        for node in module.tree.body
        if isinstance(node, ast.Assign) and _states_range(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }

    def is_range(node: ast.AST | None) -> bool:
        return _states_range(node) or (isinstance(node, ast.Name) and node.id in ranges)

    found: list[tuple[str, int]] = []
    for node in ast.walk(module.tree):
        named: list[tuple[object, ast.AST | None, int]] = []
        if isinstance(node, ast.Dict):
            named = [(getattr(k, "value", None), v, v.lineno) for k, v in zip(node.keys, node.values, strict=True)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            named = [(node.target.id, node.value, node.lineno)]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            named = [(node.args[0].value, node, node.lineno)]
        found += [(str(field), line) for field, value, line in named if field in NETWORK_FIELDS and is_range(value)]
    return found


def _states_range(node: ast.AST | None) -> bool:
    """A call with two or more numbers, such as ``whole(1, 4096)``."""
    if not isinstance(node, ast.Call):
        return False
    values = [*node.args, *(keyword.value for keyword in node.keywords)]
    return sum(_is_number(value) for value in values) >= 2


def _is_number(node: ast.AST) -> bool:
    if isinstance(node, ast.UnaryOp):
        return _is_number(node.operand)
    if isinstance(node, ast.BinOp):
        return _is_number(node.left) and _is_number(node.right)
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


@dataclass(frozen=True)
class House:
    """The installed packages in a folder."""

    modules: Modules

    @classmethod
    def at(cls, root: Path) -> House:
        return cls(read_modules(root, PACKAGES))

    def circles(self) -> str:
        found = circles(import_graph(self.modules))
        return f"{len(found)} ({', '.join(f'{len(c)} modules' for c in found)})" if found else "0"

    def package_circles(self) -> str:
        found = circles(package_graph(import_graph(self.modules), depth=1))
        return f"{len(found)} ({'; '.join(', '.join(c) for c in found)})" if found else "0"

    def late_imports(self) -> str:
        """Statements inside functions that import the project's own modules; how many of them not in a command."""
        late = {
            (module.path, found.line)
            for module in self.modules.values()
            for found in module.imports()
            if found.inside_function and found.name.split(".")[0] in PACKAGES
        }
        elsewhere = sum(not path.startswith(COMMANDS) for path, _ in late)
        return f"{len(late)} in {len({path for path, _ in late})} files, {elsewhere} of them not in a command"

    def largest_module(self) -> str:
        module = max(self.modules.values(), key=lambda m: m.lines)
        return f"{module.lines} lines ({module.path})"

    def largest_class(self) -> str:
        every = [(node, module) for module in self.modules.values() for node in module.classes()]
        node, module = max(every, key=lambda item: _length(item[0]))
        methods = sum(isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) for inner in node.body)
        return f"{_length(node)} lines, {methods} methods ({node.name} in {module.path})"

    def longest_function(self) -> str:
        every = [
            (node, module)
            for module in self.modules.values()
            for node in ast.walk(module.tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        node, module = max(every, key=lambda item: _length(item[0]))
        return f"{_length(node)} lines ({node.name} in {module.path})"

    def private_torch(self) -> str:
        return str(sum(bool(private_torch_names(module)) for module in self.modules.values()))

    def window_cuts(self) -> str:
        return self._listed(WINDOW_CUTS)

    def window_groupings(self) -> str:
        return self._listed(WINDOW_GROUPINGS)

    def point_forms(self) -> str:
        return self._listed(POINT_FORMS)

    def point_checks(self) -> str:
        return self._listed(POINT_CHECKS)

    def ranges(self) -> str:
        """Statements of ranges in all, and of the field for which there are most."""
        stated = [(field, name) for name, module in self.modules.items() for field, _ in range_statements(module)]
        modules = {name for _, name in stated}
        fields = [field for field, _ in stated]
        most = max(set(fields), key=lambda field: (fields.count(field), field), default=None)
        if most is None:
            return "0"
        return f"{len(stated)} in {len(modules)} modules; {most} in {fields.count(most)} places"

    def _listed(self, things: Things) -> str:
        here = [thing for thing, places in things.items() if any(self._defines(*place) for place in places)]
        return f"{len(here)} ({'; '.join(here)})" if here else "0"

    def _defines(self, module: str, name: str) -> bool:
        return module in self.modules and name in definitions(self.modules[module])


def _length(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


ROWS: dict[str, Callable[[House], str]] = {
    "circles of modules": House.circles,
    "circles of the packages": House.package_circles,
    "imports of own modules inside functions": House.late_imports,
    "largest module": House.largest_module,
    "largest class": House.largest_class,
    "longest function": House.longest_function,
    "places that cut windows": House.window_cuts,
    "places that group windows": House.window_groupings,
    "places that state a range of a network's field": House.ranges,
    "forms of a click point": House.point_forms,
    "checks of a click point": House.point_checks,
    "files that use private interfaces of PyTorch": House.private_torch,
}


def main(argv: Sequence[str] = ()) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks house", description=__doc__)
    parser.add_argument("--before", type=Path, help="a checkout of the state to compare with")
    parser.add_argument("--after", type=Path, default=Path(__file__).parent.parent, help="default: this folder")
    parser.add_argument("--quick", action="store_true", help="the same; there is nothing to shorten")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    args = parser.parse_args(argv)
    houses = {"before": args.before, "after": args.after} if args.before else {"now": args.after}
    found = {title: House.at(folder) for title, folder in houses.items()}
    lines = [
        "# How the code is put together",
        "",
        "`python -m benchmarks house`: counted from the syntax trees of what people install; definitions that cut or",
        "group windows, forms and checks of a click point are listed by name in `house.py`, found by reading.",
        "",
        "| | " + " | ".join(found) + " |",
        "|---" * (len(found) + 1) + "|",
        *(
            f"| {title} | " + " | ".join(count(house) for house in found.values()) + " |"
            for title, count in ROWS.items()
        ),
    ]
    publish("\n".join(lines) + "\n" + _kept(args.out), args.out)
    return 0


def _kept(out: Path | None) -> str:
    """What stands below the table in the file that is written anew: sections that people write."""
    text = out.read_text(encoding="utf-8") if out is not None and out.is_file() else ""
    start = text.find("\n## ")
    return text[start:] if start >= 0 else ""
