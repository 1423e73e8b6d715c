"""The table of how the code is put together counts what it says."""

from __future__ import annotations

import ast
from pathlib import Path

from benchmarks.house import House, definitions, main, range_statements
from benchmarks.syntax import Module, read_modules


def module(text: str) -> Module:
    return Module("m", "m.py", text, ast.parse(text))


def test_ranges_are_found_in_tables_in_fields_and_in_calls():
    text = """
WIDTH = whole(1, 4096)
TABLE = {"z_dim": WIDTH, "w_dim": whole(low=1, high=1 << 12), "architecture": one_of("skip")}
@dataclass
class Config:
    c_dim: int = size(0, high=100)
    img_channels: int = 3
def f(z_dim):
    check("z_dim", z_dim, 1, 8192)
    check("name", z_dim, 1, 8192)
    check("w_dim", w_dim)
"""
    assert sorted(field for field, _ in range_statements(module(text))) == ["c_dim", "w_dim", "z_dim", "z_dim"]


def test_definitions_are_found_at_every_depth():
    text = "A: TypeAlias = int\nB = 3\nclass C:\n    def f(self): ...\n"
    assert definitions(module(text)) == {"A", "B", "C", "f"}


def test_two_folders_are_counted_beside_each_other(tmp_path):
    for name, text in {
        "before/draggan/a.py": "from draggan import b\nclass C:\n    def f(self):\n        return 1\n",
        "before/draggan/b.py": "def g():\n    import draggan.a\n    import os\n",
        "after/draggan/a.py": "from draggan import b\nimport torch\ntorch._C\n",
        "after/draggan/b.py": "",
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    before = House(read_modules(tmp_path / "before"))
    assert before.circles() == "1 (2 modules)"
    assert before.late_imports() == "1 in 1 files, 1 of them not in a command"
    assert before.largest_module() == "4 lines (draggan/a.py)"
    assert before.largest_class() == "3 lines, 1 methods (C in draggan/a.py)"
    out = tmp_path / "house.md"
    (tmp_path / "after/draggan/c.py").write_text("class D:\n    def f(self):\n        pass\n")
    assert main(["--before", str(tmp_path / "before"), "--after", str(tmp_path / "after"), "--out", str(out)]) == 0
    assert "| circles of modules | 1 (2 modules) | 0 |" in out.read_text()
    assert "| files that use private interfaces of PyTorch | 0 | 1 |" in out.read_text()


def test_what_is_listed_by_name_exists():
    """A definition that was renamed would count as one less. Where one is gone, its line goes, too."""
    here = House.at(Path(__file__).parent.parent)
    assert int(here.window_cuts().split()[0]) >= 1
    assert int(here.point_forms().split()[0]) >= 1
