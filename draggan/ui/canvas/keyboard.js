// Keys: a cross on the picture in place of a mouse, and shortcuts for the whole page.

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const sheet = element.querySelector('.dg-sheet'), aloud = element.querySelector('.dg-aloud');
let left = null;               // where the cross was before a drag, which would hide what came of it
let nudged = null, rested = null, spoken = null;

function say(text) {
  clearTimeout(spoken);
  spoken = setTimeout(() => { aloud.textContent = text; }, 400);
}

// Where the cross is, once it rests.
const tell = (at) => say(at.map((v) => Math.round(v)).join(', '));

const within = (at, by, far) => at.map((v, k) => Math.min(Math.max(v + far * by[k], 0), size[k] - 1));

function moveBy(by, far) {
  const pair = tool === 'points' && !state.pending && selected ? state.points[selected.pair] : null;
  if (pair) {
    const k = selected.end === 'handle' ? 0 : 2, to = within(pair.slice(k, k + 2), by, far);
    pair.splice(k, 2, ...to);
    // One step of history for as long as keys are being pressed.
    clearTimeout(nudged);
    nudged = setTimeout(settleNudge, 300);
    nudgedAt = to;
    clearTimeout(rested);
    rested = setTimeout(() => { nudgedAt = null; draw(); }, 2000);
    changed();
    return tell(to);
  }
  const from = cross || state.pending || left || size.map((n) => n >> 1);
  cross = hover = within(from, by, far);
  if (hold && !hold.end) {
    hold.at = cross;
    hold.news = performance.now();
    steer();
  } else if (press?.brush) {
    stroke(press.at, cross);
    press.at = cross;
  }
  tell(cross);
}

// What keys have moved is told at once where something else is about to be done with it.
function settleNudge() {
  if (!nudged) return;
  clearTimeout(nudged);
  nudged = null;
  commit();
}
document.addEventListener('click', settleNudge, true);

function showCross() {
  cross ??= hover = state.pending || left || size.map((n) => n >> 1);
  tell(cross);
}

// The pair whose dot the cross is on.
function pairAt(at) {
  const [x, y] = place(at);
  const near = (point) => { const [px, py] = place(point); return Math.hypot(px - x, py - y) <= DOT; };
  const found = state.points.findIndex(([hx, hy, tx, ty], pair) => !isOff(pair) && (near([hx, hy]) || near([tx, ty])));
  return found < 0 ? undefined : found;
}

function enter() {
  if (tool === 'points') return cross && setPoint(cross);      // twice at one place: a point that is held there
  if (tool === 'pull') {
    if (hold && !hold.end) return letGo(hold.at);
    return !props.busy && props.frame && takeHold(cross, pairAt(cross));
  }
  if (press?.brush) { press = null; return endStroke(); }
  press = { brush: true, at: cross };
  stroke(cross, cross);
}

ink.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (props.busy && !(hold && !hold.end)) return;
  if (ARROWS[event.key]) moveBy(ARROWS[event.key], event.shiftKey ? 10 : 1);
  else if (event.key === 'Enter') { if (cross) enter(); else showCross(); }
  else return;
  draw();
  event.preventDefault();
});
// Who comes by keys sees where the next one would be.
ink.addEventListener('keyup', (event) => { if (event.key === 'Tab' && !props.busy) { showCross(); draw(); } });

// Keys for the whole page; never while something is being typed or chosen.
const BUTTON_OF = { undo: '#dg-undo', redo: '#dg-redo', stop: '#dg-stop', start: '#dg-start', save: '#dg-save', copy: '#dg-copy', refuse: '#dg-not-now' };
const hit = (name) => {
  settleNudge();
  const at = document.querySelector(BUTTON_OF[name]), button = at?.matches('button') ? at : at?.querySelector('button');
  if (button && !button.disabled) button.click();
};
const pressable = (target) => target.closest?.('button, a, summary, [role=option], [role=checkbox], input, label');

function onKey(event) {
  if (!element.isConnected) { document.removeEventListener('keydown', onKey); return; }
  if (sheet.open || wholeSheet.open || event.defaultPrevented || event.target.closest?.('textarea, select, [contenteditable], input:not([type=range], [type=checkbox], [type=radio])')) return;
  const key = event.key.toLowerCase(), held = hold && props.busy;
  if ((event.ctrlKey || event.metaKey) && !event.altKey && (key === 'z' || key === 'y')) {
    if (!held) hit(key === 'y' || event.shiftKey ? 'redo' : 'undo');
  } else if ((event.ctrlKey || event.metaKey) && !event.altKey && key === 's') {
    if (!held) hit('save');
  } else if ((event.ctrlKey || event.metaKey) && key === 'c' && !event.altKey && !event.shiftKey && getSelection().isCollapsed) {
    if (!held) hit('copy');
  } else if (event.ctrlKey || event.metaKey || event.altKey) {
    return;
  } else if (event.key === 'Escape') {
    if (hold && props.held) { hold.stop = true; hold.end = false; letGo(null); }
    else if (props.busy) hit('stop');
    else if (peek !== null) peekAt(null);
    else if (press) giveUp();
    else if (state.pending) { state.pending = null; commit(); }
    else if (selected) select(null);
    else if (document.querySelector('#dg-not-now')?.checkVisibility()) hit('refuse');
    else return;
  } else if (event.key === 'Backspace' || event.key === 'Delete') {
    removePoint();
  } else if (event.key === ' ') {
    // Held, it moves the picture; pressed and released, it starts and stops. A button that has the focus is pressed.
    if (pressable(event.target)) return;
    if (!spaceHeld) panned = false;
    spaceHeld = true;
    stage.dataset.space = '';
  } else if ('1234'.includes(key)) {
    if (!props.busy) choose(tools[key - 1].dataset.tool);
  } else if (key === 'p') {
    if (selected) holdStill(selected.pair);
  } else if (key === 'o') {
    if (selected) switchPoint(selected.pair);
  } else if (event.key === '?') {
    openSheet();
  } else if (key === 'b') {
    compare(true);
  } else if (key === 'l') {
    wanted = true;
    draw();
  } else if (key === 'i') {
    if (tool === 'mask' || tool === 'erase') invertMask();
  } else if (key === '[' || key === ']') {
    resizeBrush(key === ']' ? 1 : -1);
  } else if (key === '+' || key === '=') {
    look(view.zoom * 1.5);
  } else if (key === '-' || key === '−') {
    look(view.zoom / 1.5);
  } else if (key === '0') {
    fit();
  } else {
    return;
  }
  event.preventDefault();
}
document.addEventListener('keydown', onKey);
document.addEventListener('keyup', (event) => {
  const key = event.key.toLowerCase();
  if (key === 'b') compare(false);
  if (key === 'l') { wanted = false; draw(); }
  if (event.key !== ' ' || !spaceHeld) return;
  spaceHeld = false;
  delete stage.dataset.space;
  if (!panned && !(hold && props.busy)) hit(props.busy ? 'stop' : 'start');
});
window.addEventListener('blur', () => { spaceHeld = wanted = false; delete stage.dataset.space; });

element.querySelector('#dg-keys').addEventListener('click', openSheet);
function openSheet() {
  sheet.showModal();
  sheet.scrollTop = 0;
}
sheet.addEventListener('click', (event) => { if (event.target === sheet) sheet.close(); });

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
