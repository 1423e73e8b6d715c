"""What the project says of itself, to package tools and to people, agrees with what it is."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import draggan
from benchmarks.house import definitions
from benchmarks.syntax import read_modules

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = ("draggan", "torch_utils", "dnnlib")


def lines_of(name: str) -> list[str]:
    return (ROOT / name).read_text(encoding="utf-8").splitlines()


def test_the_version_is_stated_once_and_cited_as_it_is():
    assert re.fullmatch(r"\d+\.\d+\.\d+", draggan.__version__)
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "draggan.__version__"}
    assert f"version: {draggan.__version__}" in lines_of("CITATION.cff")
    assert any(draggan.__version__ in line for line in lines_of("CHANGELOG.md") if line.startswith("## "))


def test_the_extra_for_development_is_the_file_for_development():
    assert lines_of("requirements-dev.txt") == [
        "-r requirements.txt",
        *PYPROJECT["project"]["optional-dependencies"]["dev"],
    ]


def test_every_package_is_typed_and_says_so():
    assert all((ROOT / package / "py.typed").is_file() for package in PACKAGES)
    assert set(PACKAGES) <= set(PYPROJECT["tool"]["mypy"]["files"])


def test_every_file_that_a_package_needs_is_installed_with_it():
    """Sources of operators, scripts and styles of the page, weights: all but Python and what is for people to read."""
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["*"]
    left_out = {
        path.relative_to(ROOT).as_posix()
        for package in (*PACKAGES, "checkpoints")
        for path in (ROOT / package).rglob("*")
        if path.is_file()
        and path.suffix not in (".py", ".pyc", ".pyi", ".md", ".jpg")
        and not any(path.match(pattern) for pattern in patterns)
    }
    assert left_out == set()


def test_a_space_reads_the_head_of_the_readme_and_the_package_has_a_description_without_one():
    readme, description = lines_of("README.md"), lines_of(PYPROJECT["project"]["readme"])
    assert readme[0] == "---"
    settings = readme[1 : readme.index("---", 1)]
    assert {"sdk: gradio", "app_file: app.py", "license: apache-2.0"} <= set(settings)
    assert description[0] == "# draggan"
    # Pictures and links of the repository lead nowhere from a package index.
    assert not re.findall(r"\]\((?!https://)", "\n".join(description))


def test_links_in_the_documents_lead_somewhere():
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
    broken = {
        (document.name, link)
        for document in documents
        for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
        if "://" not in link and not (document.parent / link).exists()
    }
    assert broken == set()


# Where the documents look for a file that they name without its folder.
FOLDERS = (
    *("", "draggan", "checkpoints", "torch_utils/ops", "torch_utils/ops/csrc", "draggan/scenes/csrc"),
    *("draggan/ui/canvas", "draggan/drag/solvers", "draggan/generators/stylegan2", "draggan/generators/stylegan3"),
)


def test_files_that_the_documents_name_exist():
    missing = {
        (document, name)
        for document in ("README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/method.md")
        for name in re.findall(r"`([\w./]+(?:\.(?:py|h|cpp|js|md|toml|ml)|/))`", (ROOT / document).read_text("utf-8"))
        # The environment may be anywhere.
        if not (
            "NAME" in name or name.startswith(".venv/") or any((ROOT / folder / name).exists() for folder in FOLDERS)
        )
    }
    assert missing == set()


def test_names_that_the_architecture_points_to_exist():
    """Such as ``stopping.py`, `decide``: a file, and what it defines."""
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    modules = read_modules(ROOT)
    by_path = {module.path: definitions(module) for module in modules.values()}
    pairs = re.findall(r"`([\w/]+\.py)`, `(\w+)`", text)
    assert len(pairs) >= 4
    assert {(path, name) for path, name in pairs if name not in by_path[f"draggan/{path}"]} == set()


def test_continuous_integration_runs_what_people_run():
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    assert "run: .ci/run" in workflow
    assert "run: .ci/package" in workflow
    assert all(f'"{version}"' in workflow for version in ("3.10", "3.11", "3.12"))
    script = "\n".join(lines_of(".ci/run"))
    assert "ruff format --check ." in script
    assert "ruff check ." in script
    assert "mypy" in script
