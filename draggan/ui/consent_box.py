"""The box to tick before a file is uploaded; what crosses between page and server is written down here.

Ticking it, or taking the tick away, sets ``value = {agreed}`` and raises ``agree``. The server answers with the prop
``answer = {agreed, token}``; the token stays in this tab's sessionStorage, which a reload keeps, and is sent as
``value = {token}`` when the page comes up again. The box shows what the server has said, never what it was clicked to.
"""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from draggan.provenance.consent import MODEL, Text

__all__ = ["consent_box"]

_BOX = '<label class="dg-consent"><input type="checkbox"><span>WORDS</span></label>'

_SCRIPT = """
const KEY = 'NAME', box = element.querySelector('input');
const kept = {
  get() { try { return sessionStorage.getItem(KEY); } catch { return null; } },
  set(token) { try { token ? sessionStorage.setItem(KEY, token) : sessionStorage.removeItem(KEY); } catch {} },
};
const send = (value) => { props.value = value; trigger('agree', {}); };
box.addEventListener('change', () => { box.disabled = true; send({ agreed: box.checked }); });
const show = () => {
  if (!props.answer) return;
  box.disabled = false;
  box.checked = props.answer.agreed;
  kept.set(props.answer.token);
};
watch('answer', show);
if (kept.get()) setTimeout(() => send({ token: kept.get() }));
"""


def consent_box(words: str, text: Text, **look: Any) -> gr.HTML:
    """The component.

    Args:
        words: the sentence to agree to, with what leads to it: our own words, which a template may hold.
        text: what is agreed to.
    """
    key = "draggan-consent" if text is MODEL else f"draggan-consent-{text.name}"
    return gr.HTML(
        value=None,
        answer=None,
        html_template=_BOX.replace("WORDS", html.escape(words)),
        js_on_load=_SCRIPT.replace("NAME", key),
        apply_default_css=False,
        **look,
    )
