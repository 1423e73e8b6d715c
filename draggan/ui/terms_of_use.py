"""What everybody is told once: terms of use at the start, what a saved file carries at the first one; and a link below
the page that opens all of it."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

__all__ = ["SAVED", "TEXT_ID", "at_first_save", "footer", "notice"]

TEXT_ID = "dg-responsible-use"
SAVED = "dg-saved"
"""Event of the window: a file has been saved."""

# Opens the text, wherever on the page it stands.
_OPEN = f"""
const open = () => {{
  const text = document.getElementById('{TEXT_ID}'), head = text?.querySelector('button');
  if (!head) return;
  const shown = () => text.querySelector('.prose')?.offsetParent;
  if (!shown()) head.click();
  // Once it is as long as it will be: before, there is nowhere to go.
  const go = (left) => {{
    if (shown() || !left) text.scrollIntoView({{ block: 'start' }});
    else setTimeout(() => go(left - 1), 50);
  }};
  go(40);
}};
element.querySelector('.dg-terms-link').addEventListener('click', open);
"""

_NOTICE = """<div class="dg-notice" role="note" hidden><span>WORDS</span>
<button class="dg-terms-link">Responsible use</button><button class="dg-notice-ok">OK</button></div>"""

_FOOTER = """<p class="dg-foot">What is saved here is marked as made by AI.
<button class="dg-terms-link">Responsible use</button></p>"""

# Where a browser keeps nothing, it is said again.
_ONCE = """
const KEY = 'NAME', bar = element.querySelector('.dg-notice');
const kept = { get: () => { try { return localStorage.getItem(KEY); } catch { return null; } },
               set: () => { try { localStorage.setItem(KEY, 'seen'); } catch {} } };
bar.querySelector('.dg-notice-ok').addEventListener('click', () => { bar.hidden = true; kept.set(); });
"""

_AT_START = "bar.hidden = Boolean(kept.get());"
_AT_FIRST_SAVE = f"window.addEventListener('{SAVED}', () => {{ if (!kept.get()) bar.hidden = false; kept.set(); }});"


def notice(words: str, **look: Any) -> gr.HTML:
    """A sentence that stays until somebody has said OK, and does not come again in that browser."""
    return _told_once(words, "draggan-terms-1", _AT_START, **look)


def at_first_save(words: str, **look: Any) -> gr.HTML:
    """A sentence that appears when the first file has been saved in that browser."""
    return _told_once(words, "draggan-saved-1", _AT_FIRST_SAVE, **look)


def _told_once(words: str, key: str, when: str, **look: Any) -> gr.HTML:
    return gr.HTML(
        html_template=_NOTICE.replace("WORDS", html.escape(words)),
        js_on_load=_ONCE.replace("NAME", key) + when + _OPEN,
        apply_default_css=False,
        **look,
    )


def footer(**look: Any) -> gr.HTML:
    """The line below the page."""
    return gr.HTML(html_template=_FOOTER, js_on_load=_OPEN, apply_default_css=False, **look)
