// The picture, and over it the points and the mask that a person draws.
//
// Python -> page: frame (a picture), size ([width, height]), live (handles while a drag runs), busy, held (the key of
// the pull that runs), and value when points or mask change on the server's side. Page -> Python: value = {points:
// [[hx, hy, tx, ty], ...], pending: [x, y] | null, mask: PNG data URL | null} in image pixels, mirrored with every edit; the
// revision that the server gave its last value goes back with it.
//
// A pull (the tool Live) begins with the event of that name and value.pull = {key, at}; from then on the pointer is
// told of with server.steer({key, at, end, stop, seen}), outside the queue: one call at a time, the newest position, never
// a backlog. The answer is the newest picture, {count, frame, handles}, or {} if that has been seen.
//
// The frame has a prop of its own, so that pictures that stream in never touch what is being drawn.

const stage = element.querySelector('.dg-stage'), picture = element.querySelector('.dg-picture');
const ink = element.querySelector('.dg-ink'), empty = element.querySelector('.dg-empty');
const brush = element.querySelector('.dg-brush'), brushSize = brush.querySelector('input');
const tools = [...element.querySelectorAll('[data-tool]')];
const onPicture = picture.getContext('2d'), onInk = ink.getContext('2d');
const layer = () => document.createElement('canvas');
const mask = layer(), shade = layer(), onMask = mask.getContext('2d', { willReadFrequently: true });
const onShade = shade.getContext('2d');

const HANDLE = '#e5332d', TARGET = '#1e78e5';
const MARGIN = 14;      // CSS px of ink around the picture: dots on the border stay whole, border pixels are easy to hit
const HIT = 11;         // CSS px around a dot that take hold of it
const PULL = 4;         // CSS px of movement that make a press a pull
let state = blank(), tool = 'points', size = [1, 1];
const REST = 1000;      // ms without news after which a pointer that rests is told of only as often
let press = null;       // what the pointer is doing: {start, at, pair, end} or {start, at} or {brush}
let hold = null;        // a pull: {key, start, at, end, stop, seen, handles, news, flying, timer}
let hover = null;       // image pixel under the pointer
let cross = null;       // image pixel of the keyboard's cross
let painted = false, drawDue = false;

function blank() { return { points: [], pending: null, mask: null }; }

// ---- where things are -----------------------------------------------------------------------------------------

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

// Image pixel -> place on the ink, in CSS px of the untransformed page; integers are pixel centres.
function place([x, y]) {
  return [MARGIN + (x + 0.5) * picture.clientWidth / size[0], MARGIN + (y + 0.5) * picture.clientHeight / size[1]];
}

function near(event, point) {
  const r = ink.getBoundingClientRect(), [x, y] = place(point), zoom = r.width / ink.clientWidth;
  return Math.hypot((event.clientX - r.left) / zoom - x, (event.clientY - r.top) / zoom - y) <= HIT;
}

function grabbed(event) {
  for (let i = state.points.length - 1; i >= 0; i--) {
    const [hx, hy, tx, ty] = state.points[i];
    if (near(event, [tx, ty])) return { pair: i, end: 'target' };
    if (near(event, [hx, hy])) return { pair: i, end: 'handle' };
  }
  return null;
}

// ---- drawing --------------------------------------------------------------------------------------------------

function draw() {
  if (drawDue) return;
  drawDue = true;
  requestAnimationFrame(() => { drawDue = false; paint(); });
}

function paint() {
  const width = ink.clientWidth, height = ink.clientHeight, dense = window.devicePixelRatio || 1;
  if (ink.width !== Math.round(width * dense) || ink.height !== Math.round(height * dense)) {
    ink.width = Math.round(width * dense);
    ink.height = Math.round(height * dense);
  }
  onInk.setTransform(ink.width / width, 0, 0, ink.height / height, 0, 0);
  onInk.clearRect(0, 0, width, height);
  paintMask();
  const pairs = props.held ? [] : shownPairs();
  for (const [h, t] of pairs) arrow(place(h), place(t));
  pairs.forEach(([h, t], i) => { dot(place(t), TARGET, i + 1, true); dot(place(h), HANDLE, i + 1, false); });
  const start = state.pending || (press && press.pulled && press.pair === undefined && !press.brush ? press.start : null);
  if (start && !props.busy) {
    const end = press && press.pulled ? press.at : hover;
    if (end && tool === 'points') {
      arrow(place(start), place(end), true);
      onInk.globalAlpha = 0.75;
      dot(place(end), TARGET, pairs.length + 1, true);
      onInk.globalAlpha = 1;
    }
    ring(place(start), 15);
    dot(place(start), HANDLE, pairs.length + 1, false);
  }
  if (hold && props.held === hold.key) {
    const there = hold.handles?.[0] || hold.start;
    if (!hold.end) arrow(place(there), place(hold.at));
    ring(place(there), 13);
    dot(place(there), HANDLE, '', false);
  }
  if ((tool === 'mask' || tool === 'erase') && hover && !props.busy) {
    ring(place(hover), Math.max(brushPixels() / 2 * picture.clientWidth / size[0], 3));
  }
  if (cross && document.activeElement === ink && !props.busy) crosshair(place(cross));
}

// Pairs to show: as edited, or with the handles where the running drag has them; a pair being moved under the pointer.
function shownPairs() {
  return state.points.map(([hx, hy, tx, ty], i) => {
    let h = [hx, hy], t = [tx, ty];
    if (props.busy && props.live && props.live[i]) h = props.live[i];
    if (press && press.pulled && press.pair === i) { if (press.end === 'handle') h = press.at; else t = press.at; }
    return [h, t];
  });
}

function paintMask() {
  if (!painted) return;
  const [x, y, w, h] = [MARGIN, MARGIN, picture.clientWidth, picture.clientHeight];
  // What is held still is dimmed; hatching tells it from a dark part of the picture.
  onShade.globalCompositeOperation = 'copy';
  onShade.fillStyle = '#0b0d14';
  onShade.fillRect(0, 0, shade.width, shade.height);
  onShade.globalCompositeOperation = 'destination-out';
  onShade.drawImage(mask, 0, 0);
  onInk.imageSmoothingQuality = 'high';
  onInk.globalAlpha = tool === 'points' || tool === 'pull' || props.busy ? 0.38 : 0.62;
  onInk.drawImage(shade, x, y, w, h);
  onInk.globalAlpha = 1;
  outline(x, y, w, h);
}

// A light line with a dark one inside, along the border of the painted region: seen on any picture.
const edge = layer(), onEdge = edge.getContext('2d');
function outline(x, y, w, h) {
  edge.width = Math.max(Math.round(w), 1); edge.height = Math.max(Math.round(h), 1);
  const ringOf = (width, colour) => {
    onEdge.globalCompositeOperation = 'source-over';
    for (let k = 0; k < 8; k++) {
      onEdge.drawImage(mask, width * Math.cos(k * Math.PI / 4), width * Math.sin(k * Math.PI / 4), w, h);
    }
    onEdge.globalCompositeOperation = 'source-in';
    onEdge.fillStyle = colour;
    onEdge.fillRect(0, 0, w, h);
    onEdge.globalCompositeOperation = 'destination-out';
    onEdge.drawImage(mask, 0, 0, w, h);
    onInk.drawImage(edge, x, y);
    onEdge.clearRect(0, 0, w, h);
  };
  ringOf(2.5, '#101218');
  ringOf(1.25, '#ffffff');
}

function arrow(from, to, dashed = false) {
  const dx = to[0] - from[0], dy = to[1] - from[1], length = Math.hypot(dx, dy);
  if (length < 4) return;
  const ux = dx / length, uy = dy / length, tip = [to[0] - ux * 10, to[1] - uy * 10];
  const stroke = (width, colour) => {
    onInk.strokeStyle = colour;
    onInk.lineWidth = width;
    onInk.lineCap = onInk.lineJoin = 'round';
    onInk.setLineDash(dashed ? [5, 6] : []);
    onInk.beginPath();
    onInk.moveTo(from[0], from[1]);
    onInk.lineTo(tip[0], tip[1]);
    onInk.stroke();
    onInk.setLineDash([]);
    if (length < 26) return;
    onInk.beginPath();
    onInk.moveTo(tip[0] - ux * 8 - uy * 6, tip[1] - uy * 8 + ux * 6);
    onInk.lineTo(tip[0], tip[1]);
    onInk.lineTo(tip[0] - ux * 8 + uy * 6, tip[1] - uy * 8 - ux * 6);
    onInk.stroke();
  };
  stroke(5, 'rgba(16, 18, 24, 0.75)');
  stroke(2.5, '#ffffff');
}

// Handles are filled, targets are rings with a pale centre: told apart without colour too.
function dot([x, y], colour, number, hollow) {
  const disc = (radius, fill) => { onInk.beginPath(); onInk.arc(x, y, radius, 0, 7); onInk.fillStyle = fill; onInk.fill(); };
  disc(11, 'rgba(16, 18, 24, 0.55)');
  disc(10, '#ffffff');
  disc(8.5, colour);
  if (hollow) disc(6.2, '#ffffff');
  onInk.fillStyle = hollow ? '#12458a' : '#ffffff';
  onInk.font = `700 ${number > 99 ? 7 : number > 9 ? 9 : 11}px system-ui, sans-serif`;
  onInk.textAlign = 'center';
  onInk.textBaseline = 'middle';
  onInk.fillText(String(number), x, y + 0.5);
}

function ring([x, y], radius) {
  for (const [width, colour] of [[4, 'rgba(16, 18, 24, 0.8)'], [2, '#ffffff']]) {
    onInk.beginPath();
    onInk.arc(x, y, radius, 0, 7);
    onInk.lineWidth = width;
    onInk.strokeStyle = colour;
    onInk.stroke();
  }
}

function crosshair([x, y]) {
  for (const [width, colour] of [[4, 'rgba(16, 18, 24, 0.8)'], [2, '#ffffff']]) {
    onInk.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      onInk.moveTo(x + 4 * dx, y + 4 * dy);
      onInk.lineTo(x + 14 * dx, y + 14 * dy);
    }
    onInk.lineWidth = width;
    onInk.strokeStyle = colour;
    onInk.stroke();
  }
}

// ---- editing --------------------------------------------------------------------------------------------------

function commit() {
  props.value = structuredClone(state);
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

function brushPixels() { return Math.max(1, Math.round(brushSize.value / 100 * Math.max(...size))); }

function stroke(from, to) {
  onMask.globalCompositeOperation = tool === 'erase' ? 'destination-out' : 'source-over';
  onMask.strokeStyle = '#fff';
  onMask.lineWidth = brushPixels();
  onMask.lineCap = 'round';
  onMask.beginPath();
  onMask.moveTo(from[0] + 0.5, from[1] + 0.5);
  onMask.lineTo(to[0] + 0.5, to[1] + 0.5);
  onMask.stroke();
  painted = true;
}

function endStroke() {
  const alpha = onMask.getImageData(0, 0, mask.width, mask.height).data;
  painted = false;
  for (let i = 3; i < alpha.length && !painted; i += 4) painted = alpha[i] > 127;
  if (!painted) onMask.clearRect(0, 0, mask.width, mask.height);
  state.mask = painted ? mask.toDataURL('image/png') : null;
  showBrush();
  commit();
}

// Tell the server where the pointer is, and show what came of it; then the same again. One word at a time is on its way.
async function steer() {
  const pull = hold, now = performance.now();
  if (!pull || pull.flying || props.held !== pull.key) return;
  clearTimeout(pull.timer);
  if (!pull.end && now - pull.news > REST && now - pull.told < REST) {
    pull.timer = setTimeout(steer, REST);
    return;
  }
  pull.flying = true;
  pull.told = now;
  let answer;
  try {
    const { key, at, end, stop, seen } = pull;
    answer = await server.steer({ key, at, end, stop, seen });
  } catch {
    answer = {};
    await new Promise((done) => { setTimeout(done, REST / 4); });
  }
  pull.flying = false;
  if (!answer || pull !== hold || props.held !== pull.key) return;
  if (answer.frame) {
    pull.seen = answer.count;
    pull.handles = answer.handles;
    pull.news = performance.now();
    show(answer.frame, answer.handles);
  }
  steer();
}

function takeHold(at) {
  const key = crypto.getRandomValues(new Uint32Array(4)).join('-');
  hold = { key, start: at, at, end: false, stop: false, seen: 0, told: 0, news: performance.now() };
  props.value = structuredClone({ ...state, pull: { key: hold.key, at } });
  trigger('pull', {});
}

function letGo(at) {
  if (!hold || hold.end) return;
  if (at) hold.at = at;
  hold.end = true;
  steer();
  draw();
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

function showBrush() {
  brush.querySelector('output').textContent = `${brushPixels()} px`;
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
    takeHold(exactly(event));
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
brushSize.addEventListener('input', () => { showBrush(); draw(); });

// ---- what the server sends ------------------------------------------------------------------------------------

function resize() {
  const [width, height] = props.size || [1, 1];
  if (size[0] === width && size[1] === height && picture.width === width) return;
  size = [width, height];
  for (const canvas of [picture, mask, shade]) { canvas.width = width; canvas.height = height; }
  document.documentElement.style.setProperty('--dg-ratio', width / height);
  painted = false;
  showBrush();
  draw();
}

let newest = 0, shown = 0;
function show(url, handles) {
  const mine = ++newest, image = new Image();
  image.onload = () => {
    if (mine < shown) return;      // a later one was faster
    shown = mine;
    onPicture.drawImage(image, 0, 0, size[0], size[1]);
    empty.hidden = true;
    stage.dataset.handles = JSON.stringify(handles);    // where they are in the picture shown; for those who measure
    stage.dataset.frames = mine;
    if (hold) draw();
  };
  image.src = url;
}

function take() {
  state = { ...blank(), ...structuredClone(props.value || {}) };
  delete state.pull;
  press = null;
  const url = state.mask;
  if (!url) {
    onMask.clearRect(0, 0, mask.width, mask.height);
    painted = false;
    showBrush();
  } else {
    const image = new Image();
    image.onload = () => {
      if (state.mask !== url) return;
      onMask.globalCompositeOperation = 'copy';
      onMask.drawImage(image, 0, 0);
      onMask.globalCompositeOperation = 'source-over';
      painted = true;
      showBrush();
      draw();
    };
    image.src = url;
  }
  draw();
}

// One string, not four: Gradio takes a name that stands in quotes alone for an event of the component.
const [SIZE, FRAME, LIVE, BUSY, HELD] = 'size frame live busy held'.split(' ');
watch(SIZE, resize);
const showFrame = () => { if (props.frame) show(props.frame, props.live); };
watch(FRAME, () => { resize(); showFrame(); });
watch('value', take);
watch(LIVE, draw);
watch(HELD, () => {
  // Pressed again before the server had answered: nobody holds that pull any more.
  if (props.held && hold?.key !== props.held) server.steer({ key: props.held, stop: true }).catch(() => {});
  steer();
});
watch(BUSY, () => {
  press = null;
  if (!props.busy) hold = null;
  steer();
  stage.classList.toggle('dg-busy', Boolean(props.busy));
  for (const button of tools) button.disabled = Boolean(props.busy);
  const page = element.closest('#dg-page');
  if (page) page.dataset.pulling = Boolean(props.busy && props.held);
  showBrush();
  draw();
});
new ResizeObserver(draw).observe(stage);
resize();
choose('points');
showFrame();
take();
