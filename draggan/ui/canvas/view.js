// What is on the canvas: the picture, and over it, on a canvas of its own, the ink: points, arrows, mask and crosses.
//
// The files of this folder are one script: component.py joins them in the order of its _SCRIPT. What crosses between
// page and server is written down in protocol.md.

const stage = element.querySelector('.dg-stage'), picture = element.querySelector('.dg-picture');
const ink = element.querySelector('.dg-ink'), empty = element.querySelector('.dg-empty');
const tools = [...element.querySelectorAll('[data-tool]')];
const onPicture = picture.getContext('2d'), onInk = ink.getContext('2d');
const layer = () => document.createElement('canvas');

const HANDLE = '#e5332d', TARGET = '#1e78e5', OFF = '#6b7480';
const MARGIN = 14;      // CSS px of ink around the picture: dots on the border stay whole, border pixels are easy to hit
let state = blank();     // points, those that are off, pending and mask, as they are drawn
let tool = 'points', size = [1, 1];
let press = null;        // what the pointer is doing: {start, at, finger, pair, end} or {start, at, finger} or {brush}
let selected = null;     // the dot that keys act on: {pair, end}
let hover = null;        // image pixel under the pointer
let cross = null;        // image pixel of the keyboard's cross
let drawDue = false;

function blank() { return { points: [], off: [], pending: null, mask: null, arrived: [] }; }
const isOff = (pair) => state.off.includes(pair);
// Numbers of the pairs that a drag moves, in its order.
const active = () => state.points.map((_, pair) => pair).filter((pair) => !isOff(pair));

// Image pixel -> place on the ink, in CSS px of the untransformed page; integers are pixel centres.
function place([x, y]) {
  const { x: left, y: top, zoom } = view;
  return [MARGIN + left + (x + 0.5) * zoom * picture.clientWidth / size[0],
    MARGIN + top + (y + 0.5) * zoom * picture.clientHeight / size[1]];
}

// CSS px of the screen to one pixel of the picture.
function scale() { return view.zoom * picture.clientWidth / size[0]; }

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
  paintLoupe();
  if (peek !== null) return;         // points and mask lie on other content there
  paintMask();
  const pulled = hold && props.held === hold.key;
  const pairs = pulled ? [] : shownPairs();
  const faint = (pair) => { onInk.globalAlpha = isOff(pair) ? 0.6 : 1; };
  pairs.forEach(([h, t], i) => { faint(i); arrow(place(h), place(t), isOff(i)); });
  onInk.globalAlpha = 1;
  if (selected && pairs[selected.pair] && !props.busy) {
    ring(place(pairs[selected.pair][selected.end === 'handle' ? 0 : 1]), 15);
  }
  pairs.forEach(([h, t], i) => {
    faint(i);
    if (!props.busy && isHeld([...h, ...t])) square(place(h));
    else dot(place(t), isOff(i) ? OFF : TARGET, i + 1, true);
    dot(place(h), isOff(i) ? OFF : HANDLE, i + 1, false);
  });
  onInk.globalAlpha = 1;
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
  if (pulled) paintPull();
  if ((tool === 'mask' || tool === 'erase') && hover && !props.busy) {
    ring(place(hover), Math.max(brushPixels() / 2 * scale(), 3));
  }
  if (cross && document.activeElement === ink && !props.busy) crosshair(place(cross));
}

// Pairs to show: as edited, or with the handles where the running drag has them; a pair being moved under the pointer.
function shownPairs() {
  const moving = active();
  return state.points.map(([hx, hy, tx, ty], i) => {
    let h = [hx, hy], t = [tx, ty];
    if (props.busy) h = props.live?.[moving.indexOf(i)] ?? h;
    if (press && press.pulled && press.pair === i) { if (press.end === 'handle') h = press.at; else t = press.at; }
    return [h, t];
  });
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
  if (x < 0 || y < 0 || x > ink.clientWidth || y > ink.clientHeight) return;    // zoomed out of sight
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

// Around a handle that is to stay where it is.
function square([x, y]) {
  for (const [width, colour] of [[4, 'rgba(16, 18, 24, 0.8)'], [2, '#ffffff']]) {
    onInk.lineWidth = width;
    onInk.strokeStyle = colour;
    onInk.strokeRect(x - 12, y - 12, 24, 24);
  }
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

function resize() {
  const [width, height] = props.size || [1, 1];
  if (size[0] === width && size[1] === height && picture.width === width) return;
  size = [width, height];
  for (const canvas of [picture, mask, shade]) { canvas.width = width; canvas.height = height; }
  document.documentElement.style.setProperty('--dg-ratio', width / height);
  painted = false;
  selected = null;
  look(1);
  showBrush();
  draw();
}

function showFrame() { if (props.frame) show(props.frame, props.live); }

// Pictures on the way are smaller and would blur what a mask holds exactly: there the picture stays that was.
const inMask = layer();
function drawInMask(image) {
  [inMask.width, inMask.height] = size;
  const on = inMask.getContext('2d');
  on.drawImage(mask, 0, 0);
  on.globalCompositeOperation = 'source-in';
  on.drawImage(image, 0, 0, size[0], size[1]);
  onPicture.drawImage(inMask, 0, 0);
}

let newest = 0, shown = 0, onScreen = '';
function show(url, handles, frame = '') {
  const mine = ++newest, image = new Image();
  image.onload = () => {
    if (mine < shown) return;      // a later one was faster
    shown = mine;
    if (props.busy && props.holds && painted) drawInMask(image);
    else onPicture.drawImage(image, 0, 0, size[0], size[1]);
    empty.hidden = true;
    onScreen = url;
    if (url === props.frame && !props.busy) photograph();
    stage.dataset.handles = JSON.stringify(handles);    // where they are in the picture shown; for those who measure
    stage.dataset.frames = mine;
    stage.dataset.frame = frame;    // its number in the film, where it is looked back at
    if (hold) draw();
  };
  image.src = url;
}

// The line under the picture says what only the browser can know; null: again what the server has said.
function sayInLine(detail) {
  document.querySelector('.dg-status')?.dispatchEvent(new CustomEvent('draggan-say', { detail }));
}
