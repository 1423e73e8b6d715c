// Mouse, pen and finger on the picture, and the choice of the tool.

const HIT = 11;          // CSS px around a dot that take hold of it
const FINGER = 22;       // and under a finger with the tool Live
const PULL = 4;          // CSS px of movement that make a press a pull

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

function near(event, point) {
  const r = ink.getBoundingClientRect(), [x, y] = place(point), zoom = r.width / ink.clientWidth;
  const hit = tool === 'pull' && event.pointerType === 'touch' ? FINGER : HIT;
  return Math.hypot((event.clientX - r.left) / zoom - x, (event.clientY - r.top) / zoom - y) <= hit;
}

function grabbed(event) {
  for (let i = state.points.length - 1; i >= 0; i--) {
    const [hx, hy, tx, ty] = state.points[i];
    if (near(event, [tx, ty])) return { pair: i, end: 'target' };
    if (near(event, [hx, hy])) return { pair: i, end: 'handle' };
  }
  return null;
}

function commit() {
  props.value = structuredClone(state);
  document.dispatchEvent(new CustomEvent('draggan-drawn', { detail: structuredClone(state) }));
  draw();
  trigger('edit', {});
}

function setPoint(at) {
  if (state.pending) {
    state.points.push([...state.pending, ...at]);
    state.pending = null;
  } else {
    state.pending = at;
  }
  commit();
}

function choose(next) {
  tool = next;
  for (const button of tools) {
    const chosen = button.dataset.tool === tool;
    button.setAttribute('aria-checked', chosen);
    button.tabIndex = chosen ? 0 : -1;
  }
  // Its place stays: the picture does not move.
  brush.classList.toggle('dg-off', tool === 'points' || tool === 'pull');
  stage.dataset.tool = tool;
  showBrush();
  draw();
}

ink.addEventListener('pointerdown', (event) => {
  if (!event.isPrimary || event.button !== 0 || props.busy || !props.frame) return;
  ink.setPointerCapture(event.pointerId);
  cross = hold = null;
  const at = hover = pixel(event);
  const client = [event.clientX, event.clientY];
  if (tool === 'points') {
    press = { start: at, at, client, pulled: false };
    if (!state.pending) Object.assign(press, grabbed(event));
  } else if (tool === 'pull') {
    takeHold(exactly(event), grabbed(event)?.pair, event.pointerType === 'touch');
  } else {
    press = { brush: true, at };
    stroke(at, at);
  }
  draw();
});

ink.addEventListener('pointermove', (event) => {
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
  draw();
});

ink.addEventListener('pointerup', (event) => {
  if (hold && event.isPrimary) return letGo(exactly(event));
  if (!press || !event.isPrimary) return;
  const done = press, at = pixel(event);
  press = null;
  if (done.brush) return endStroke();
  if (!done.pulled) return setPoint(done.start);
  if (done.pair !== undefined) {
    state.points[done.pair].splice(done.end === 'handle' ? 0 : 2, 2, ...at);
    return commit();
  }
  state.points.push([...(state.pending || done.start), ...at]);
  state.pending = null;
  commit();
});

ink.addEventListener('lostpointercapture', () => letGo(null));
ink.addEventListener('pointercancel', () => { letGo(null); const wasBrush = press?.brush; press = null; if (wasBrush) endStroke(); draw(); });
ink.addEventListener('pointerleave', () => { hover = null; draw(); });
ink.addEventListener('blur', () => { cross = null; draw(); });
ink.addEventListener('contextmenu', (event) => event.preventDefault());
