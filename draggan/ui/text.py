"""Components that show text. What they show is data: names of files, tensors and models come from anybody.

Gradio evaluates a ``gr.HTML`` template as a program into which values have been pasted, and a Markdown component
formats them. Here a template holds no value at all: a script reads the prop ``text`` as data and sets it with
``textContent``.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

__all__ = ["progress_bar", "status_line", "text_block"]

# With each tool of the canvas something else is to be done next; what has happened is said until another is chosen.
_STATUS = """
const line = element.querySelector('p');
const CROWDED = ' Dots overlap: the wheel zooms in.';
let tool = 'points', chosen = false, ofBrowser = false, crowded = false;
const show = () => {
  const hint = props.hints?.[tool], next = (chosen && props.kind !== 'run') || !props.kind;
  ofBrowser = false;
  const whole = hint + (crowded && tool === 'points' ? CROWDED : '');
  line.textContent = next && hint ? window.dragganHand.words(whole) : props.text ?? '';
  line.dataset.kind = next ? '' : props.kind;
  line.setAttribute('aria-live', props.spoken);
  line.style.setProperty('--dg-done', `${Number(props.percent) || 0}%`);
};
watch(['text', 'kind', 'spoken', 'hints', 'said'], () => { chosen = false; show(); });
document.addEventListener('draggan-tool', ({ detail }) => {
  chosen = chosen || detail !== tool;
  tool = detail;
  show();
});
document.addEventListener('draggan-crowded', ({ detail }) => { crowded = detail; if (!ofBrowser) show(); });
document.addEventListener('draggan-hand', () => { if (!ofBrowser) show(); });
// What only the browser can know.
line.addEventListener('draggan-say', ({ detail }) => {
  if (!detail) { show(); return; }
  ofBrowser = true;
  if (detail.quiet) line.setAttribute('aria-live', 'off');
  line.textContent = detail.text;
  line.dataset.kind = detail.kind;
});
show();
"""

_BAR = """
const bar = element.querySelector('.dg-bar div'), line = element.querySelector('p');
const show = () => {
  line.textContent = props.text ?? '';
  bar.style.width = `${Number(props.percent) || 0}%`;
};
watch(['text', 'percent'], show);
show();
"""

# Addresses become links; a text has no other way to.
_TEXT = r"""
const block = element.querySelector('div');
const show = () => {
  // What it is about, and then the rest.
  const [first, ...others] = String(props.text ?? '').split('\n');
  block.replaceChildren(Object.assign(document.createElement('span'), { textContent: first }));
  for (const part of others.map((line) => `\n${line}`).join('').split(/(https:\/\/[^\s<>"'`]*[^\s<>"'`.,;:!?)\]}])/)) {
    if (!part.startsWith('https:')) { block.append(part); continue; }
    const link = document.createElement('a');
    Object.assign(link, { href: part, textContent: part, target: '_blank', rel: 'noopener noreferrer' });
    block.append(link);
  }
};
watch('text', show);
show();
"""


def status_line(text: str, **look: Any) -> gr.HTML:
    """One line; its props ``kind`` ("run", "good", "note", "bad" or "") and ``spoken`` (of ``aria-live``) go along,
    and ``percent``, of what is under way.

    Of kind "", it is the one of the prop ``hints`` that belongs to the tool chosen on the canvas.
    """
    template = '<p class="dg-status" role="status"></p>'
    return _component(text, template, _STATUS, kind="run", spoken="polite", hints=None, percent=0, said=0, **look)


def progress_bar(**look: Any) -> gr.HTML:
    """A progress bar, filled to its prop ``percent``, with a line of text below."""
    return _component("", '<div class="dg-bar"><div></div></div><p></p>', _BAR, percent=0, **look)


def text_block(**look: Any) -> gr.HTML:
    """Several lines of text: the first stands out, and in the others https addresses are links."""
    return _component("", '<div class="dg-text" role="status"></div>', _TEXT, **look)


def _component(text: str, template: str, script: str, **more: Any) -> gr.HTML:
    return gr.HTML(text=text, html_template=template, js_on_load=script, apply_default_css=False, **more)
