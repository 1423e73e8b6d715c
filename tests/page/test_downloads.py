"""Models that are not here: what is said before a download, and what becomes of one."""

from __future__ import annotations

import gradio as gr
import pytest

from draggan.engine.models import CatalogueModels
from draggan.errors import DownloadError
from draggan.ui.jobs import DownloadJob
from tests.page.driving import chosen, request, shown, text_of
from tests.sessions import click


def test_a_model_that_is_not_here_is_offered_with_size_source_and_terms(do, parts, session, distant):
    first = chosen(do, session, "far")
    assert "Size: asking" in shown(first, parts.terms)["text"]
    assert first[parts.offer]["visible"] is True
    assert parts.session not in first, "the picture stays"
    assert first[parts.offered] == "far"
    second = do.tell("far", do.ask("far")[parts.asked])
    for fact in ("Far away is not on this machine yet", "Size: 2.5 MB", "From: example.org", "CC0", "A note."):
        assert fact in shown(second, parts.terms)["text"]
    closed = do.not_now(session, request())
    assert closed[parts.offer]["visible"] is False
    assert shown(closed, parts.model)["value"] == "bump"
    with pytest.raises(KeyError):
        distant.load("far")


@pytest.mark.parametrize("then", ["tiny", "hand", "not now", "a file"])
def test_the_offer_of_a_model_no_longer_chosen_does_not_come_back(do, parts, session, distant, then):
    """It was closed, or another took its place, while the server was being asked."""
    first = chosen(do, session, "far")
    asked = do.ask(first[parts.offered])[parts.asked]
    later = {
        "tiny": lambda: chosen(do, session, "tiny"),
        "hand": lambda: chosen(do, session, "hand"),
        "not now": lambda: do.not_now(session, request()),
        "a file": lambda: list(do.open_file(session, "/somewhere/mine.safetensors", request()))[-1],
    }[then]()
    assert later[parts.offered] == ("hand" if then == "hand" else "")
    assert do.tell(later[parts.offered], asked) == {parts.asked: None}
    assert do.ask("" if then != "hand" else "hand")[parts.asked] != asked


def test_what_only_a_person_can_fetch_is_explained(do, parts, session):
    updates = chosen(do, session, "hand")
    assert "Get it from a friend." in shown(updates, parts.terms)["text"]
    assert updates[parts.download]["visible"] is False


def test_a_download_has_a_bar_and_can_be_cancelled(do, parts, session, distant):
    run = do.download(session, "far", request())
    first = next(run)
    assert first[parts.not_now]["value"] == "Cancel"
    assert shown(first, parts.bar)["text"] == "Connecting …"
    bar = shown(next(u for u in run if shown(u, parts.bar)["percent"] == 40), parts.bar)
    assert bar["text"].startswith("1 of 2.5 MB")
    with pytest.raises(gr.Error, match="A download is running in this tab already"):
        next(do.download(session, "far", request()))
    assert do.not_now(session, request())[parts.not_now]["value"] == "Cancelling …"
    last = list(run)[-1]
    assert "cancelled" in text_of(last, parts)
    assert last[parts.download]["interactive"] is True
    assert shown(last, parts.model)["value"] == "bump", "the list says again what is on the canvas"
    assert last[parts.offered] == "far", "and it can be tried again"


def test_a_finished_download_is_used_unless_work_would_be_lost(do, parts, session, distant):
    distant.more.set()
    used = list(do.download(session, "far", request()))[-1]
    assert used[parts.session].model == "far"
    assert shown(used, parts.settings)["value"]["step_size"] == 0.005
    assert shown(used, parts.model)["title"] == "Far away"
    distant.forget()
    distant.more.set()
    kept = list(do.download(click(session, (3, 4)), "far", request("another tab")))[-1]
    assert parts.session not in kept
    assert text_of(kept, parts) == "Far away is ready. Choose it from the list to use it."


def test_a_failed_download_says_why_and_can_be_tried_again(do, parts, session, distant):
    distant.broken = True
    distant.more.set()
    updates = []
    for _ in range(2):
        with pytest.raises(gr.Error, match="no connection"):
            updates.extend(do.download(session, "far", request()))
    assert "no connection." in text_of(updates[-1], parts)
    assert updates[-1][parts.download]["interactive"] is True
    assert shown(updates[-1], parts.model)["value"] == "bump"


def test_a_download_that_fails_while_it_is_looked_at_has_not_come():
    fetch = DownloadJob(lambda progress: None)

    class Failing:
        """Of a thread: it still runs when it was waited for, and fails just before it is asked whether it does."""

        def join(self, patience):
            pass

        def is_alive(self):
            fetch._error = DownloadError("no connection")
            return False

    fetch._thread = Failing()
    with pytest.raises(DownloadError, match="no connection"):
        fetch.ended(patience=0)


def test_a_file_that_is_opened_during_a_download_stays_in_the_list_when_that_fails(do, parts, session, distant):
    fetch, read = do.page.tabs.serialized(do.download), do.page.tabs.serialized(do.open_file)
    distant.broken = True
    run = fetch(request(), session, "far")
    next(run)
    opened = list(read(request(), session, "/somewhere/mine.safetensors"))[-1][parts.session]
    distant.more.set()
    updates = []
    with pytest.raises(gr.Error, match="no connection"):
        updates.extend(run)
    last = updates[-1]
    assert shown(last, parts.model)["value"] == opened.model
    assert shown(last, parts.model)["title"] == "mine.safetensors"
    assert last[parts.offered] == "far"


def test_a_model_that_has_come_replaces_no_other_that_was_chosen_meanwhile(do, parts, session, distant):
    fetch, choose = do.page.tabs.serialized(do.download), do.page.tabs.serialized(do.choose_model)
    run = fetch(request(), session, "far")
    next(run)
    (there,) = choose(request(), session, "tiny", 0)
    distant.more.set()
    last = list(run)[-1]
    assert shown(last, parts.model)["value"] == there[parts.session].model == "tiny"
    assert "Far away is ready" in text_of(last, parts)


def test_what_is_told_of_a_download_names_every_host(monkeypatch):
    terms = CatalogueModels().terms("lions-512", ask=False)
    assert terms.source == "storage.googleapis.com, else huggingface.co"
    assert "Hugging Face" in terms.notes
