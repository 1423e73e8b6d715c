"""The box to tick before a file is uploaded; what crosses between page and server is written down here.

Ticking it, or taking the tick away, sets ``value = {agreed}`` and raises ``agree``. The server answers with the prop
``answer = {agreed, token}``; the token stays in this tab's sessionStorage, which a reload keeps, and is sent as
``value = {token}`` when the page comes up again. The box shows what the server has said, never what it was clicked to.
"""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

__all__ = ["consent_box"]

_BOX = '<label class="dg-consent"><input type="checkbox"><span>WORDS</span></label>'

_SCRIPT = """
const KEY = 'draggan-consent', box = element.querySelector('input');
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


def consent_box(words: str, **look: Any) -> gr.HTML:
    """The component, with the sentence to agree to: our own words, which a template may hold."""
    return gr.HTML(
        value=None,
        answer=None,
        html_template=_BOX.replace("WORDS", html.escape(words)),
        js_on_load=_SCRIPT,
        apply_default_css=False,
        **look,
    )
