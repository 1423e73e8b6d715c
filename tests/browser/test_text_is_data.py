"""Names come from anybody: the page shows them letter for letter, and takes nothing in them for a program or HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from draggan.checkpoints.catalogue import Preset
from draggan.downloads import Terms
from draggan.engine.models import Model, Progress
from draggan.errors import CheckpointError, DownloadError
from tests.browser.driving import Page, agree, expect, needs_browser
from tests.pages import BUMP, TinyModels
from tests.test_hostile_work import named

pytestmark = needs_browser

NASTY = (
    "${6*7}",
    "{{7*7}}",
    "{{{value}}} {{#each value}}{{this}}{{/each}} @children",
    "${document.title = 'taken'}",
    "`${alert(1)}`",
    "<b>bold</b> <img src=x onerror=\"document.title='taken'\"> <script>document.title='taken'</script>",
    "&amp; &lt; \"double\" 'single' $a$ **stars** [link](javascript:alert(1)) # $$x^2$$",
    r"C:\new\table\u0041\x41\models\cats.pkl",
)
ALL = " | ".join(NASTY)


class NastyModels(TinyModels):
    """Models whose titles, terms and errors are as hostile as can be."""

    def listed(self) -> Sequence[Model]:
        first, *others = super().listed()
        presets = (Preset(title=ALL, seed=0, points=((*BUMP, 26, 30),)),)
        return [replace(first, presets=presets), *(replace(m, title=f"{m.name}: {ALL}", state=ALL) for m in others)]

    def terms(self, name: str, *, ask: bool) -> Terms:
        by_hand = f"{ALL} https://example.org/a?b=${{c}}d." if name == "hand" else ""
        return Terms(bytes=None, source=ALL, licence=ALL, notes=ALL, by_hand=by_hand)

    def fetch(self, name: str, progress: Progress) -> None:
        raise DownloadError(f"no connection to {ALL}")

    def open(self, path: Path) -> Model:
        if path.suffix != ".safetensors":
            raise CheckpointError(f"in {path.name}: the tensor '{ALL}' is too large")
        return super().open(path)


@pytest.fixture(scope="module")
def models() -> TinyModels:
    return NastyModels()


def says(page: Page, part: str, text: str) -> None:
    """Wait until what can be read in a part of the page has this text, letter for letter; and nothing came of it."""
    page.wait_for_function(
        "([part, text]) => [...document.querySelectorAll(part)].some((e) => e.textContent.includes(text))",
        arg=[part, text],
        timeout=8000,
    )
    assert page.title() == "DragGAN"
    assert page.locator(f"{part} :is(b, img, script, em, strong)").count() == 0


@pytest.mark.parametrize("name", [*NASTY, ALL])
def test_a_path_and_a_tensor_in_the_status_line(visit, name):
    page = visit()
    page.get_by_role("button", name="Open a model file").click()
    page.fill("#dg-path textarea, #dg-path input", f"/nowhere/{name}.pkl")
    page.keyboard.press("Enter")
    said = f": the tensor '{ALL}' is too large."
    # Of a path the last part is shown, as the machine's own rules have it.
    says(page, ".dg-status", Path(f"/nowhere/{name}.pkl").name + said)


def test_titles_terms_and_errors_of_downloads(visit):
    page = visit()
    says(page, "#dg-preset-0", ALL)
    page.click("#dg-preset-0")
    says(page, ".dg-status", f"{ALL}: press Start")
    page.click(".dg-model-button")
    says(page, ".dg-card-title", f"hand: {ALL}")
    says(page, ".dg-card-fact", f"Terms: {ALL}")
    page.locator(".dg-card").filter(has_text="hand: ").click()
    says(page, "#dg-terms", f"hand: {ALL} cannot be downloaded from here.\n\n{ALL} https://example.org/a?b=${{c}}d.")
    says(page, "#dg-terms", f"Terms: {ALL}.")
    links = page.locator("#dg-terms a")
    assert [link.get_attribute("href") for link in links.all()] == ["https://example.org/a?b=${c}d"]
    page.click("#dg-not-now")
    page.click(".dg-model-button")
    page.locator(".dg-card").filter(has_text="far: ").click()
    for text in (f"far: {ALL} is not on this machine", f"From: {ALL}", f"weights: {ALL}"):
        says(page, "#dg-terms", text)
    page.click("#dg-download")
    says(page, ".dg-status", f"No connection to {ALL}.")


def test_the_name_of_an_uploaded_file(visit, tmp_path):
    """Gradio leaves letters, digits and a few signs of it; what it leaves is shown."""
    page = visit()
    agree(page)
    path = tmp_path / "${6*7} {{7*7}} <b>x<b> 'y' `z`.safetensors"
    path.write_bytes(b"weights")
    page.locator("#dg-upload").locator("xpath=..").locator("input[type=file]").first.set_input_files(path)
    page.wait_for_function("document.querySelector('.dg-picture').width === 16")
    expect(page.locator(".dg-model-button span")).to_have_text("67 77 bxb 'y' z.safetensors")
    assert page.title() == "DragGAN"


def test_the_names_of_photos_and_sessions(visit):
    page = visit()
    name = "${6*7} {{7*7}} <img src=x onerror=\"document.title='taken'\"> `${alert(1)}`"
    page.set_input_files(
        "#dg-opener input", {"name": f"{name}.png", "mimeType": "image/png", "buffer": b"\x89PNG\r\n\x1a\n"}
    )
    says(page, ".dg-status", f"{name}.png cannot be read as a picture")
    hostile = {"name": f"{name}.draggan", "mimeType": "", "buffer": named(name)}
    page.set_input_files("#dg-opener input", hostile)
    says(page, ".dg-status", f"This work needs the model '{name}'")
    page.get_by_role("button", name="Your photo").click()
    page.locator("#dg-photo-consent").get_by_role("checkbox").check()
    page.set_input_files(".dg-photo input", {"name": f"{name}.png", "mimeType": "image/png", "buffer": b"no picture"})
    says(page, ".dg-photo-said", f"{name}.png is not a picture that can be read")
