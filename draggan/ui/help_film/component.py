"""The component with a short film of the page in use, which comes only when somebody asks for it.

From the page: the event ``watch``. To the page: the prop ``film``, the film as a data URL. `python -m benchmarks live
--film` records it.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import gradio as gr

__all__ = ["FILM", "film_url", "help_film"]

FILM = Path(__file__).parent / "live.webp"
_TEMPLATE = """<div class="dg-help-film"><button type="button" aria-expanded="false"></button>
<img alt="A hand pulls the nose of a cat: the head turns after it, as far as the model can, and back" hidden></div>"""
_SCRIPT = """
const button = element.querySelector('button'), image = element.querySelector('img');
const show = (on) => {
  image.hidden = !on;
  // From its beginning, each time.
  if (on) image.src = props.film;
  else image.removeAttribute('src');
  button.textContent = on ? 'Close the film' : 'Watch a film of it (20 s)';
  button.setAttribute('aria-expanded', on);
};
button.addEventListener('click', () => {
  if (!image.hidden) show(false);
  else if (props.film) show(true);
  else trigger('watch', {});
});
watch('film', () => { if (props.film) show(true); });
show(false);
"""


def help_film(**look: Any) -> gr.HTML:
    """The component."""
    return gr.HTML(html_template=_TEMPLATE, js_on_load=_SCRIPT, apply_default_css=False, film=None, **look)


def film_url() -> str:
    """The film as a data URL."""
    return "data:image/webp;base64," + base64.b64encode(FILM.read_bytes()).decode("ascii")
