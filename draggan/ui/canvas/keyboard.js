// Keys: a cross on the picture in place of a mouse, and shortcuts for the whole page.

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
ink.addEventListener('keydown', (event) => {
  if (props.busy || event.ctrlKey || event.metaKey || event.altKey) return;
  const by = ARROWS[event.key];
  if (by && tool === 'points') {
    const far = event.shiftKey ? 10 : 1, from = cross || state.pending || size.map((n) => n >> 1);
    cross = from.map((v, k) => Math.min(Math.max(v + far * by[k], 0), size[k] - 1));
    hover = cross;
    draw();
  } else if ((event.key === 'Enter' || event.key === ' ') && cross && tool === 'points') {
    setPoint(cross);
  } else {
    return;
  }
  event.preventDefault();
});

// Keys for the whole page; never while something is being typed or chosen.
const BUTTON_OF = { undo: '#dg-undo', redo: '#dg-redo', stop: '#dg-stop', remove: '#dg-remove-last' };
const hit = (name) => {
  const at = document.querySelector(BUTTON_OF[name]), button = at?.matches('button') ? at : at?.querySelector('button');
  if (button && !button.disabled) button.click();
};
function onKey(event) {
  if (!element.isConnected) { document.removeEventListener('keydown', onKey); return; }
  if (event.defaultPrevented || event.target.closest?.('textarea, select, [contenteditable], input:not([type=range])')) return;
  const key = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && !event.altKey && (key === 'z' || key === 'y')) {
    if (!hold || !props.busy) hit(key === 'y' || event.shiftKey ? 'redo' : 'undo');
  } else if (event.ctrlKey || event.metaKey || event.altKey) {
    return;
  } else if (event.key === 'Escape') {
    if (hold && props.held) { hold.stop = true; hold.end = false; letGo(null); }
    else if (props.busy) hit('stop');
    else if (press) { press = null; draw(); }
    else if (state.pending) { state.pending = null; commit(); }
    else return;
  } else if (event.key === 'Backspace') {
    if (!hold || !props.busy) hit('remove');
  } else {
    return;
  }
  event.preventDefault();
}
document.addEventListener('keydown', onKey);

for (const button of tools) {
  button.addEventListener('click', () => choose(button.dataset.tool));
  button.addEventListener('keydown', (event) => {
    const by = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!by) return;
    const next = tools[(tools.indexOf(button) + by + tools.length) % tools.length];
    choose(next.dataset.tool);
    next.focus();
    event.preventDefault();
  });
}
