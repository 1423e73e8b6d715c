// Mouse, pen and finger on the picture, and the choice of the tool.

const DOT = 11;          // CSS px around the middle of a dot: as far as it is seen, and a click on it is meant for it
// Under a finger, a pull takes hold of it from farther away. A point may be pulled out close beside another one, as on
// two lips; with Live, only dots are taken hold of.
const FINGER = { points: 15, pull: 22 };
const PULL = 4;          // CSS px of movement that make a press a pull
const DOUBLE = 500;      // ms within which two clicks are one double click
let pendingSince = 0;    // when the handle that waits for its target was clicked

// Pointer -> index of the pixel under it. The picture's client rectangle already contains zoom, transforms and scroll.
function pixel(event) {
  const r = picture.getBoundingClientRect();
  const index = (offset, length, count) => Math.min(Math.max(Math.floor(offset * count / length), 0), count - 1);
  return [index(event.clientX - r.left, r.width, size[0]), index(event.clientY - r.top, r.height, size[1])];
}

// The same between the pixels, for a pull: a small picture has several pixels of the screen to one of its own.
function exactly(event) {
  const r = picture.getBoundingClientRect();
  const along = (offset, length, count) => {
    const v = offset * count / length - 0.5;
    return Math.round(100 * Math.min(Math.max(v, 0), count - 1)) / 100;
  };
  return [along(event.clientX - r.left, r.width, size[0]), along(event.clientY - r.top, r.height, size[1])];
}

// CSS px from the pointer to a point.
function distance(event, point) {
  const r = ink.getBoundingClientRect(), [x, y] = place(point), by = r.width / ink.clientWidth;
  return Math.hypot((event.clientX - r.left) / by - x, (event.clientY - r.top) / by - y);
}

// Whether dots cover each other that a person has put at different places: the status line says what helps. Handle and
// target of a point that has arrived are where they should be, and an example needs no more than Start.
let crowded = false, put = false;
function noticeCrowd() {
  const dots = state.points.flatMap((point) => [point.slice(0, 2), ...(isToGo(point) ? [point.slice(2)] : [])]);
  if (state.pending) dots.push(state.pending);
  const cover = ([ax, ay], [bx, by]) => {
    const far = Math.hypot(ax - bx, ay - by);
    return far >= 1 && far * scale() < 2 * DOT - 2;
  };
  const now = put && !props.busy && dots.some((one, k) => dots.slice(k + 1).some((other) => cover(one, other)));
  if (now === crowded) return;
  crowded = now;
  document.dispatchEvent(new CustomEvent('draggan-crowded', { detail: now }));
}

// The dot that a pull from there takes along: the nearest, and of two in one place the one that is on top. `on`: a click
// is meant for it.
function grabbed(event) {
  const reach = event.pointerType === 'touch' ? FINGER[tool] : DOT;
  let best = null, least = reach;
  state.points.forEach(([hx, hy, tx, ty], pair) => {
    if (tool === 'pull' && isOff(pair)) return;
    for (const [end, point] of [['target', [tx, ty]], ['handle', [hx, hy]]]) {
      const far = distance(event, point);
      if (far <= least) [best, least] = [{ pair, end, on: far <= DOT }, far];
    }
  });
  return best;
}

// Of several changes in one tick the last is told: told twice at once, the server would get the first one twice.
let telling = null;
function tellEdit() {
  clearTimeout(telling);
  telling = setTimeout(() => trigger('edit', {}));
}

function commit() {
  put = true;
  props.value = structuredClone(state);
  document.dispatchEvent(new CustomEvent('draggan-drawn', { detail: structuredClone(state) }));
  changed();
  draw();
  tellEdit();
}

// Points or mask are others, or another one is selected: what shows them follows, without waiting for the server.
function changed() {
  const busy = Boolean(props.busy), some = state.points.length > 0 || Boolean(state.pending);
  element.querySelector('#dg-delete').disabled = busy || !some;
  element.querySelector('#dg-clear-points').disabled = busy || !some;
  element.querySelector('#dg-clear-mask').disabled = busy || !state.mask;
  const invert = element.querySelector('#dg-invert'), [name, title] = INVERT[state.mask ? 1 : 0];
  invert.disabled = busy;
  invert.title = title;
  invert.setAttribute('aria-label', name);
  invert.firstElementChild.textContent = name;
  const start = document.querySelector('#dg-start');
  if (start && start !== followed) {
    followed = start;
    new MutationObserver(startFollows).observe(start, { attributes: true, attributeFilter: ['disabled'] });
  }
  startFollows();
  noticeCrowd();
  showPoints();
}

// Start can be pressed by what the canvas shows. The server says the same, but of an older state while one is on its way:
// it would go off just when somebody presses it.
let followed = null;
function startFollows() {
  const off = Boolean(props.busy) || Boolean(state.pending) || !active().some((pair) => isToGo(state.points[pair]));
  if (followed && followed.disabled !== off) followed.disabled = off;
}

// A drag has something to do with it: it is not held where it is, nor has it arrived and stayed where it was then.
const isToGo = (point) => !isHeld(point) && !state.arrived.some((there) => there.every((v, k) => v === point[k]));

function setPoint(at) {
  if (state.pending) {
    state.points.push([...state.pending, ...at]);
    state.pending = null;
  } else {
    state.pending = at;
    pendingSince = performance.now();
  }
  selected = null;
  commit();
}

// A point without a way: a drag holds what is there.
const isHeld = ([hx, hy, tx, ty]) => hx === tx && hy === ty;
function holdStill(pair) {
  if (props.busy || !state.points[pair]) return;
  state.points[pair].splice(2, 2, ...state.points[pair].slice(0, 2));
  say(`Point ${pair + 1} is held where it is`);
  commit();
}

// The selected point, else the handle that waits for its target, else the last one.
function removePoint(pair = selected?.pair) {
  if (props.busy) return;
  if (pair === undefined && !state.pending) pair = state.points.length - 1;
  if (pair === undefined) state.pending = null;
  else if (!state.points.splice(pair, 1).length) return;
  else state.off = state.off.filter((other) => other !== pair).map((other) => other - (other > pair));
  selected = null;
  commit();
}

// Off, a point stays on the picture, and no drag moves it.
function switchPoint(pair) {
  if (props.busy || !state.points[pair]) return;
  state.off = isOff(pair) ? state.off.filter((other) => other !== pair) : [...state.off, pair];
  say(`Point ${pair + 1} ${isOff(pair) ? 'off' : 'on'}`);
  commit();
}

function select(pair, end) {
  selected = pair === null ? null : { pair, end };
  changed();
  draw();
}

// What was begun and is not finished, such as by a second finger that turns a stroke into a pinch.
function giveUp() {
  if (hold && !hold.end) { hold.stop = true; letGo(null); }
  if (press?.brush) restoreMask();
  press = null;
  draw();
}

function choose(next) {
  tool = next;
  for (const button of tools) {
    const chosen = button.dataset.tool === tool;
    button.setAttribute('aria-checked', chosen);
    button.tabIndex = chosen ? 0 : -1;
  }
  // Their place stays: the picture does not move.
  for (const option of element.querySelectorAll('.dg-option')) {
    option.classList.toggle('dg-off', !option.dataset.for.split(' ').includes(tool));
  }
  stage.dataset.tool = tool;
  document.dispatchEvent(new CustomEvent('draggan-tool', { detail: tool }));
  showBrush();
  draw();
}

function point(event) {
  const over = props.busy ? null : press?.end ?? grabbed(event)?.end;
  stage.dataset.over = (tool === 'points' || tool === 'pull') && over ? over : '';
}

ink.addEventListener('pointerdown', (event) => {
  if (viewPressed(event)) return;
  if (!event.isPrimary || event.button !== 0 || props.busy || !props.frame) return;
  if (peek !== null) return peekAt(null);
  ink.setPointerCapture(event.pointerId);
  cross = hold = nudgedAt = null;
  const at = hover = pixel(event);
  const client = [event.clientX, event.clientY];
  if (tool === 'points') {
    press = { start: at, at, client, pulled: false, finger: event.pointerType === 'touch' };
    if (!state.pending) Object.assign(press, grabbed(event));
    else press.again = distance(event, state.pending) <= DOT;
    selected = press.pair === undefined ? null : { pair: press.pair, end: press.end };
    changed();
  } else if (tool === 'pull') {
    takeHold(exactly(event), grabbed(event)?.pair, event.pointerType === 'touch');
  } else {
    press = { brush: true, at };
    stroke(at, at);
  }
  draw();
});

ink.addEventListener('pointermove', (event) => {
  if (viewMoved(event)) return;
  hover = pixel(event);
  if (hold && !hold.end && event.isPrimary) {
    hold.at = exactly(event);
    hold.news = performance.now();
    steer();
  } else if (press && event.isPrimary) {
    if (press.brush) {
      for (const part of event.getCoalescedEvents?.() ?? [event]) {
        const to = pixel(part);
        stroke(press.at, to);
        press.at = to;
      }
      if (String(press.at) !== String(hover)) { stroke(press.at, hover); press.at = hover; }
    } else {
      press.at = hover;
      press.pulled ||= Math.hypot(event.clientX - press.client[0], event.clientY - press.client[1]) >= PULL;
    }
  }
  point(event);
  draw();
});

ink.addEventListener('pointerup', (event) => {
  if (viewReleased(event)) return;
  if (hold && event.isPrimary) return letGo(exactly(event));
  if (!press || !event.isPrimary) return;
  const done = press, at = pixel(event);
  press = null;
  point(event);
  if (done.brush) return endStroke();
  // A click on a dot selects it; a double click sets no second one on top. One more click, and it is held where it is.
  if (!done.pulled && done.again) return performance.now() - pendingSince > DOUBLE ? setPoint([...state.pending]) : draw();
  if (!done.pulled) return done.on ? draw() : setPoint(done.start);
  if (done.pair !== undefined) {
    state.points[done.pair].splice(done.end === 'handle' ? 0 : 2, 2, ...at);
    return commit();
  }
  state.points.push([...(state.pending || done.start), ...at]);
  state.pending = null;
  commit();
});

ink.addEventListener('lostpointercapture', () => letGo(null));
ink.addEventListener('pointercancel', (event) => {
  if (viewReleased(event)) return;
  letGo(null);
  const wasBrush = press?.brush;
  press = null;
  if (wasBrush) endStroke();
  draw();
});
ink.addEventListener('pointerleave', () => { hover = null; draw(); });
ink.addEventListener('blur', () => { cross = nudgedAt = null; draw(); });
ink.addEventListener('contextmenu', (event) => event.preventDefault());

element.querySelector('#dg-delete').addEventListener('click', () => removePoint());
element.querySelector('#dg-clear-points').addEventListener('click', () => {
  if (props.busy) return;
  Object.assign(state, { points: [], off: [], pending: null });
  selected = null;
  commit();
});
