"""Models, files and other pictures."""

from __future__ import annotations

import json
import re
import threading

import pytest

from tests.browser.driving import PATIENCE, agree, brightest, choose_model, click, expect, frames, needs_browser, status
from tests.pages import BUMP

pytestmark = needs_browser


def test_a_setting_that_was_chosen_outlives_another_picture(visit):
    page = visit()
    page.click(".dg-expert summary")
    page.get_by_label("Gauss-Newton (fast)").check()
    page.click("#dg-random")
    expect(page.locator("#dg-seed input")).not_to_have_value("0")
    page.wait_for_timeout(300)
    assert page.get_by_label("Gauss-Newton (fast)").is_checked()
    page.get_by_role("button", name="Right", exact=True).click()
    status(page, "^Right: press Start")
    page.wait_for_timeout(300)
    assert page.get_by_label("Gauss-Newton (fast)").is_checked()


def test_models_classes_and_seeds(visit):
    page = visit()
    assert not page.locator("#dg-class").is_visible()
    choose_model(page, "Three classes")
    expect(page.locator("#dg-class")).to_be_visible()
    page.wait_for_function("document.querySelector('.dg-picture').width === 16")
    box = page.locator(".dg-picture").bounding_box()
    assert box["height"] / box["width"] == pytest.approx(2, rel=0.01)
    frames = page.locator(".dg-stage").get_attribute("data-frames")
    page.click("#dg-random")
    page.wait_for_function(f"document.querySelector('.dg-stage').dataset.frames > {frames}")
    expect(page.locator("#dg-seed input")).not_to_have_value("0")


def test_looking_at_the_list_of_models_changes_nothing_and_a_choice_is_one_step(visit):
    page = visit()
    choose_model(page, "Tiny")
    page.wait_for_function("document.querySelector('.dg-picture').width === 32")
    page.click("#dg-title")
    page.wait_for_timeout(300)
    page.click("#dg-undo")
    page.wait_for_function("document.querySelector('.dg-picture').width === 64")
    expect(page.locator("#dg-undo")).to_be_disabled()
    page.click("#dg-preset-0")
    status(page, "^Right: press Start")
    page.click("#dg-start")
    status(page, "^Arrived")
    there = brightest(page)
    # Left by Escape, by its button, and with what is chosen chosen once more.
    page.click(".dg-model-button")
    page.keyboard.press("Escape")
    expect(page.locator(".dg-model-button")).to_be_focused()
    page.keyboard.press("Enter")
    page.click(".dg-picker-close")
    choose_model(page, "A bump")
    page.wait_for_timeout(400)
    status(page, "^Arrived")
    assert brightest(page) == there
    expect(page.locator("#dg-film")).to_be_enabled()


def test_the_list_of_models_is_searched_and_walked_through_by_keys(visit, models):
    models.forget()
    page = visit()
    page.focus(".dg-model-button")
    page.keyboard.press("Enter")
    expect(page.locator(".dg-picker-count")).to_have_text("5 models")
    field, cards = page.locator(".dg-picker input"), page.locator(".dg-card")
    expect(field).to_be_focused()
    expect(page.locator(".dg-card[aria-current]")).to_contain_text("A bump")
    expect(cards.filter(has_text="Far away")).to_contain_text("To download from example.org")
    page.keyboard.press("ArrowDown")
    expect(cards.nth(0)).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(cards.nth(1)).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(field).to_be_focused()
    field.press_sequentially("no such")
    expect(page.locator(".dg-picker-count")).to_contain_text("No model is called so")
    field.fill("classes CC0")
    expect(cards).to_have_count(1)
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('.dg-picture').width === 16")
    expect(page.locator(".dg-model-button span")).to_have_text("Three classes")
    # Published ones are offered without a look at the list.
    page.get_by_role("button", name="Far", exact=True).click()
    expect(page.locator("#dg-terms")).to_contain_text("Far away is not on this machine yet.")
    # A card has the picture of its own model, not of the one on the canvas while another is on offer.
    page.click(".dg-model-button")
    expect(page.locator(".dg-card[data-name=bump] img")).to_have_count(1)
    expect(page.locator(".dg-card[data-name=far] img")).to_have_count(0)
    expect(page.locator(".dg-card[data-name=far] svg path")).to_have_count(1)
    # The box says what is on the canvas; Esc closes the list, and once more the offer.
    expect(page.locator(".dg-card[aria-current]")).to_contain_text("Three classes")
    page.keyboard.press("Escape")
    expect(page.locator(".dg-model-button span")).to_have_text("Three classes")
    expect(page.locator("#dg-offer").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#dg-offer").first).to_be_hidden()


def test_what_was_chosen_last_is_shown_though_the_first_is_still_loading(visit, engine, monkeypatch):
    page, loaded = visit(), threading.Event()

    def slowly(model, **more):
        if model == "tiny":
            assert loaded.wait(PATIENCE / 1000)
        return begin(model, **more)

    begin = engine.begin
    monkeypatch.setattr(engine, "begin", slowly)
    for title in ("Tiny", "Three classes"):
        choose_model(page, title)
    loaded.set()
    page.wait_for_function("document.querySelector('.dg-picture').width === 16")
    expect(page.locator(".dg-model-button span")).to_have_text("Three classes")


def test_a_download_asks_shows_a_bar_and_can_be_cancelled(visit, models):
    models.forget()
    page = visit()
    choose_model(page, "Far away")
    expect(page.locator("#dg-terms")).to_contain_text("Size: 2.5 MB")
    expect(page.locator("#dg-terms")).to_contain_text("CC0")
    page.click("#dg-download")
    expect(page.locator("#dg-bar")).to_contain_text("1 of 2.5 MB")
    assert page.locator(".dg-bar div").bounding_box()["width"] > 20
    page.click("#dg-not-now")
    status(page, "cancelled")
    models.more.set()
    page.click("#dg-download")
    page.wait_for_function("document.querySelector('.dg-picture').width === 32")
    expect(page.locator("#dg-offer >> visible=true")).to_have_count(0)
    expect(page.locator(".dg-model-button span")).to_have_text("Far away")


def test_a_file_is_opened_by_upload_and_by_path(visit, tmp_path):
    page = visit()
    agree(page)
    with page.expect_file_chooser() as chooser:
        page.click("#dg-upload")
    (tmp_path / "mine.safetensors").write_bytes(b"weights")
    chooser.value.set_files(tmp_path / "mine.safetensors")
    page.wait_for_function("document.querySelector('.dg-picture').width === 16")
    expect(page.locator(".dg-model-button span")).to_have_text("mine.safetensors")
    # The opened model is one of this tab's list: its pictures can be chosen, dragged and left again.
    choose_model(page, "A bump")
    page.wait_for_function("document.querySelector('.dg-picture').width === 64")
    choose_model(page, "mine.safetensors")
    page.wait_for_function("document.querySelector('.dg-picture').width === 16")
    page.fill("#dg-path textarea, #dg-path input", "/nowhere/notes.txt")
    page.keyboard.press("Enter")
    status(page, "^notes.txt is not a model file.$")


def test_a_wrong_number_is_explained_once_and_put_right(visit):
    page = visit()
    page.fill("#dg-seed input", "1.5")
    page.keyboard.press("Enter")
    status(page, "^Seed 1.5 is not allowed; give a whole number from 0 to 4294967295.$")
    expect(page.locator("#dg-seed input")).to_have_value("0")
    expect(page.get_by_test_id("toast-text")).to_have_count(0)
    page.click(".dg-expert summary")
    # A picture of 64 px; the setting is kept as at 512.
    page.fill("#dg-r1 input", "-4")
    page.keyboard.press("Enter")
    status(page, r"^Patch radius \(r1\) -4 px is not allowed; give a number from 2 to 8.$")
    expect(page.locator("#dg-r1 input")).to_have_value("2")
    expect(page.locator("#dg-r1-help")).to_contain_text("2 to 8.")
    expect(page.get_by_test_id("toast-text")).to_have_count(0)
    page.fill("#dg-r1 input", "4")
    page.keyboard.press("Enter")
    status(page, "^Click a point")


def test_a_seed_is_shown_when_it_is_whole_and_truncation_with_every_key(visit, seen):
    page = visit()
    before = frames(page)
    page.locator("#dg-truncation input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"document.querySelector('.dg-stage').dataset.frames > {before}")
    before = frames(page)
    page.locator("#dg-truncation button").click()
    page.wait_for_function(f"document.querySelector('.dg-stage').dataset.frames > {before}")
    page.locator("#dg-truncation input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"document.querySelector('.dg-stage').dataset.frames > {before + 1}")
    before = frames(page)
    page.fill("#dg-seed input", "")
    page.locator("#dg-seed input").press_sequentially("123")
    page.wait_for_timeout(300)
    assert frames(page) == before, "half a seed is no seed"
    page.keyboard.press("Enter")
    page.wait_for_function(f"document.querySelector('.dg-stage').dataset.frames > {before}")
    click(page, BUMP)
    session = seen.until(lambda s: s.pending is not None)
    assert (session.seed, session.truncation) == (123, 0.05)
    status(page, "^Now click")
    page.click("#dg-undo")
    status(page, "^Click a point")
    page.click("#dg-undo")
    expect(page.locator("#dg-seed input")).to_have_value("0")
    expect(page.locator("#dg-truncation input[type=range]")).to_have_value("0.05")
    page.click("#dg-undo")
    expect(page.locator("#dg-truncation input[type=range]")).to_have_value("0")


def test_what_is_offered_by_hand_can_be_closed_and_the_list_is_right_again(visit):
    page = visit()
    choose_model(page, "By hand")
    expect(page.locator("#dg-terms")).to_contain_text("Get it from a friend.")
    page.click("#dg-not-now")
    expect(page.locator(".dg-model-button span")).to_have_text("A bump")


def test_only_model_files_are_offered_for_upload(visit):
    page = visit()
    agree(page)
    chooser = page.locator("#dg-upload").locator("xpath=..").locator("input[type=file]").first
    expect(chooser).to_have_attribute("accept", re.compile(r"\.safetensors"))


def test_the_seed_box_that_an_example_is_clicked_from_does_not_undo_it(visit):
    """Clicking leaves the box, and the two calls may be answered in either order."""
    page = visit()
    page.fill("#dg-seed input", "7")
    page.keyboard.press("Enter")
    expect(page.locator("#dg-undo")).to_be_enabled()
    late = []

    def hold_back(route):
        data = json.loads(route.request.post_data)["data"]
        if len(data) > 1 and data[1] == 7:
            late.append(route)
        else:
            route.continue_()

    page.route("**/queue/join*", hold_back)
    page.get_by_role("button", name="Up and out").click()
    status(page, "^Up and out: press Start")
    assert late, "leaving the box is told to the server"
    with page.expect_response("**/queue/join*"):
        late[0].continue_()
    page.wait_for_timeout(700)
    status(page, "^Up and out: press Start")
    expect(page.locator("#dg-start")).to_be_enabled()
    expect(page.locator("#dg-seed input")).to_have_value("3")


def test_a_seed_is_drawn_when_its_box_is_left(visit):
    page = visit()
    page.fill("#dg-seed input", "7")
    page.keyboard.press("Tab")
    expect(page.locator("#dg-undo")).to_be_enabled()
    expect(page.locator("#dg-seed input")).to_have_value("7")
