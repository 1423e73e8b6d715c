"""A page for the person who decides about pictures that wait: on this machine, for its own user."""

from __future__ import annotations

import base64
from typing import Any

import gradio as gr

from draggan.errors import LimitError
from draggan.moderation.review import ReviewQueue
from draggan.ui import text
from draggan.ui.errors import explained
from draggan.ui.server.callers import is_own

__all__ = ["build_review"]

# Not gr.Image, which would write a copy of the picture to the disk: it is to lie in the queue and nowhere else.
_PICTURE = '<img alt="The picture that waits" style="max-width: 100%" hidden>'
_SHOW = """
const img = element.querySelector('img');
const show = () => { img.src = props.url || 'data:,'; img.hidden = !props.url; };
watch('url', show);
show();
"""


def build_review(queue: ReviewQueue) -> gr.Blocks:
    """The page: the picture that has waited longest, why it waits, and two buttons."""
    with gr.Blocks(title="DragGAN: review", analytics_enabled=False) as demo:
        gr.Markdown("# Pictures that wait for a decision")
        item = gr.State("")
        line = text.status_line("", elem_id="dg-review-status")
        picture = gr.HTML(html_template=_PICTURE, js_on_load=_SHOW, apply_default_css=False, url="")
        why = gr.Textbox(label="Why (recorded, and erased with the other details)", elem_id="dg-review-why")
        with gr.Row():
            refuse = gr.Button("Refuse", variant="stop", elem_id="dg-review-refuse")
            approve = gr.Button("Approve", elem_id="dg-review-approve")

        def show() -> dict[Any, Any]:
            waiting = queue.waiting()
            if not waiting:
                return {item: "", line: gr.HTML(text="Nothing waits."), picture: gr.HTML(url=""), why: ""}
            first = waiting[0]
            score = "" if first.score is None else f", score {first.score:.2f}"
            said = f"{len(waiting)} waiting. {first.item} on {first.stage}: {first.code} ({first.moderator}{score})."
            url = "data:image/png;base64," + base64.b64encode(first.picture.read_bytes()).decode()
            return {item: first.item, line: gr.HTML(text=said), picture: gr.HTML(url=url), why: ""}

        def look(request: gr.Request) -> dict[Any, Any]:
            with explained():
                _check(request)
                return show()

        def decide(number: str, reason: str, request: gr.Request, *, allow: bool) -> dict[Any, Any]:
            with explained():
                _check(request)
                if number:
                    queue.decide(number, allow=allow, why=reason or "")
                return show()

        def approved(number: str, reason: str, request: gr.Request) -> dict[Any, Any]:
            return decide(number, reason, request, allow=True)

        def refused(number: str, reason: str, request: gr.Request) -> dict[Any, Any]:
            return decide(number, reason, request, allow=False)

        outputs = [item, line, picture, why]
        demo.load(look, None, outputs, api_name="look")
        approve.click(approved, [item, why], outputs, api_name="approve")
        refuse.click(refused, [item, why], outputs, api_name="refuse")
    return demo.queue(api_open=False)


def _check(request: gr.Request) -> None:
    if not is_own(request):
        raise LimitError("only the user who has started this page can see what waits")
