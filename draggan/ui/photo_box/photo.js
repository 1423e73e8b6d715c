// Sends a photo, lets a person say which part of it is meant, and shows what the model makes of it. All that comes back
// is data: addresses of pictures that the server has drawn, numbers and sentences. What crosses: component.py.

const q = (what) => element.querySelector(what);
const input = q('input'), zone = q('.dg-photo-zone'), work = q('.dg-photo-work'), said = q('.dg-photo-said');
const photo = q('.dg-photo-frame img'), over = q('svg'), outline = q('polygon:not([class])'), veil = q('path');
const corner = q('circle'), dots = q('svg g'), help = q('.dg-photo-help'), bar = q('.dg-bar');
const looking = q('.dg-photo-looking'), ofModel = q('figure[hidden]');
const [cutOut, drawn] = element.querySelectorAll('.dg-photo-pair img');
const use = q('.dg-photo-found'), proposed = q('.dg-photo-proposal'), lasts = q('.dg-photo-expected');
const open = q('.dg-photo-open'), enough = q('.dg-photo-enough'), cancel = q('.dg-photo-cancel');
const ways = [...element.querySelectorAll('[data-way]')];
let chosen = null, isSent = false;     // the photo's file: until somebody has agreed, it is in this browser alone
let asked = null;              // name of the model that it was sent for
let count = 0, there = 0, note = '', way = 'box', size = [1, 1], ratio = 1, frame = [0, 0, 1, 1], face = [], grip = null, proposal = null;

const say = (text) => { said.textContent = text ?? ''; };
const busy = () => Boolean(props.work?.running);

async function send(file) {
  if (!file || busy()) return;
  [chosen, asked, isSent] = [file, props.model, props.allowed];
  if (!isSent) return say(`${file.name} has not been uploaded yet. Tick the box above to upload it.`);
  if (file.size > props.most) return say(`${file.name} is larger than ${Math.floor(props.most / 1e6)} MB. Save it smaller first.`);
  say(`Reading ${file.name} …`);
  const mine = ++count;
  try {
    const content = await window.dragganFile(file);
    if (mine !== count) return;
    props.value = { count: mine, name: file.name.slice(0, 200), content };
    trigger('photo_sent', {});
  } catch { say(`${file.name} cannot be read by this browser.`); }
}

function crop() { return way === 'face' ? { face } : { box: frame }; }
function aim() {
  if (way === 'face' && face.length < 3) return;
  props.value = { crop: crop(), count: there };
  trigger('aim', {});
}

// The frame as the server has understood it: four corners in pixels of the photo.
function outlined(corners) {
  const points = corners.map(([x, y]) => `${x + 0.5},${y + 0.5}`);
  outline.setAttribute('points', points.join(' '));
  veil.setAttribute('d', `M0,0H${size[0]}V${size[1]}H0Z M${points.join('L')}Z`);
  const thick = Math.max(...size) / 60;
  corner.setAttribute('cx', Math.min(corners[2][0], size[0] - thick));
  corner.setAttribute('cy', Math.min(corners[2][1], size[1] - thick));
  corner.setAttribute('r', thick);
  corner.style.display = way === 'box' ? '' : 'none';
}
const boxed = ([x0, y0, x1, y1]) => outlined([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]);

function clicked() {
  dots.replaceChildren(...face.map(([x, y]) => {
    const dot = document.createElementNS('http://www.w3.org/2000/svg', 'circle');
    for (const [name, v] of [['cx', x + 0.5], ['cy', y + 0.5], ['r', Math.max(...size) / 90]]) dot.setAttribute(name, v);
    return dot;
  }));
  const asked = ['Click one eye.', 'Click the other eye.', 'Click the middle of the mouth.', 'Click anywhere to begin anew.'];
  help.textContent = way === 'face' ? window.dragganHand.words(asked[face.length]) : 'Drag the frame over what you want to change; its corner resizes it.';
  open.disabled = busy() || (way === 'face' && face.length < 3);
}

function choose(next) {
  way = next;
  face = [];
  for (const button of ways) button.setAttribute('aria-pressed', button.dataset.way === way);
  over.dataset.way = way;
  if (way === 'box') { boxed(frame); aim(); } else { outline.setAttribute('points', ''); veil.setAttribute('d', ''); corner.style.display = 'none'; }
  clicked();
}

const at = (event) => {
  const r = over.getBoundingClientRect();
  return [(event.clientX - r.left) * size[0] / r.width - 0.5, (event.clientY - r.top) * size[1] / r.height - 0.5];
};

// Where the model sees its subject: a dashed frame, which a click makes the frame.
function propose(box, text) {
  proposal = box;
  use.hidden = !box;
  looking.textContent = box ? 'The dashed frame is where the model sees its subject.' : '';
  const [x0, y0, x1, y1] = (box ?? [0, 0, 0, 0]).map((v) => v + 0.5);
  proposed.setAttribute('points', box ? `${x0},${y0} ${x1},${y0} ${x1},${y1} ${x0},${y1}` : '');
  if (text && !said.textContent) say(text);
}
use.addEventListener('click', () => {
  if (!proposal || busy()) return;
  frame = [...proposal];
  propose(null);
  choose('box');
});

// The frame stays within the photo as far as it can, and keeps the shape of the model's pictures.
function place(x, y, width) {
  width = Math.min(Math.max(width, 16), Math.max(size[0], size[1] * ratio));
  const height = width / ratio;
  const within = (v, length, most) => Math.min(Math.max(v, Math.min(0, most - length) - 0.5), Math.max(0, most - length) - 0.5);
  x = within(x, width, size[0]);
  y = within(y, height, size[1]);
  frame = [x, y, x + width, y + height];
  boxed(frame);
}

over.addEventListener('pointerdown', (event) => {
  if (!event.isPrimary || event.button !== 0 || busy()) return;
  const [x, y] = at(event);
  if (way === 'face') {
    if (face.length === 3) face = [];
    face.push([x, y]);
    clicked();
    return aim();
  }
  over.setPointerCapture(event.pointerId);
  const reach = 28 * size[0] / over.getBoundingClientRect().width;
  const resizing = Math.hypot(x - frame[2], y - frame[3]) < reach;
  grip = { resizing, x, y, from: [...frame] };
});
over.addEventListener('pointermove', (event) => {
  if (!grip) return;
  const [x, y] = at(event), [x0, y0, x1, y1] = grip.from;
  if (grip.resizing) {
    const most = Math.min(size[0] - x0, (size[1] - y0) * ratio);
    place(x0, y0, Math.min(Math.max(x - x0, (y - y0) * ratio, 16), most));
  } else place(x0 + x - grip.x, y0 + y - grip.y, x1 - x0);
});
for (const end of ['pointerup', 'pointercancel']) over.addEventListener(end, () => { if (grip) { grip = null; aim(); } });
over.addEventListener('keydown', (event) => {
  if (way !== 'box' || busy()) return;
  const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  const step = Math.max(...size) / (event.shiftKey ? 20 : 100), grow = { '+': 1, '=': 1, '-': -1 }[event.key];
  const [x0, y0, x1] = frame;
  if (by) place(x0 + step * by[0], y0 + step * by[1], x1 - x0);
  else if (grow) place(x0 - grow * step, y0 - grow * step / ratio, x1 - x0 + 2 * grow * step);
  else return;
  event.preventDefault();
  event.stopPropagation();
  clearTimeout(over.dataset.due);
  over.dataset.due = setTimeout(aim, 300);
});

open.addEventListener('click', () => {
  if (busy()) return;
  props.value = { crop: crop() };
  trigger('open_photo', {});
});
enough.addEventListener('click', () => trigger('enough', {}));
cancel.addEventListener('click', () => trigger('cancel_photo', {}));
for (const button of ways) button.addEventListener('click', () => { if (!busy()) choose(button.dataset.way); });
window.dragganDrop(zone, input, send);

// Opened at the lower edge of the window, it comes into sight. It is made with the first opening, and may be made anew.
const comeIntoSight = () => setTimeout(() => {
  const panel = document.querySelector('.dg-photo');
  if (panel?.offsetParent) panel.closest('#dg-photo-box')?.scrollIntoView({ block: 'nearest' });
}, 200);
if (!window.dragganPhotoInSight) {
  window.dragganPhotoInSight = true;
  document.addEventListener('click', (event) => {
    if (event.target.closest?.('#dg-photo-box > button')) comeIntoSight();
  });
  comeIntoSight();
}

const [ALLOWED, MODEL, SHOWN, AIMED, FOUND, EXPECTED, WORK] = 'allowed model shown aimed found expected work'.split(' ');
watch(ALLOWED, () => { if (!props.allowed) isSent = false; else if (!isSent) send(chosen); });
// Another model sees something else on it, and cuts out another shape.
watch(MODEL, () => { if (props.model !== asked && isSent && element.checkVisibility()) send(chosen); });
watch(SHOWN, () => {
  const shown = props.shown;
  if (!shown || (shown.count && shown.count !== count)) return;
  props.value = null;
  if (shown.error) return say(shown.error);
  note = shown.note ?? '';
  say(note);
  there = shown.count;
  work.hidden = false;
  [size, ratio] = [shown.size, shown.ratio];
  photo.src = shown.url;
  over.setAttribute('viewBox', `0 0 ${size[0]} ${size[1]}`);
  frame = [...shown.box];
  ofModel.hidden = true;
  way = 'box';
  propose(null);
  lasts.textContent = '';
  choose(way);
  looking.textContent = 'Looking for where your subject is …';
  trigger('foresee', {});
});
// What was found out about the photo before this one, which took longer, is not said of this one.
watch(FOUND, () => { if (props.found?.count === there) looking.textContent = ''; if (props.found?.count === there && !busy()) propose(props.found.box, props.found.text); });
watch(EXPECTED, () => { if (props.expected?.count === there) lasts.textContent = props.expected.text; });
watch(AIMED, () => {
  const aimed = props.aimed;
  if (!aimed) return;
  say(aimed.error || note);
  if (aimed.error) return;
  cutOut.src = aimed.cut;
  if (!grip) outlined(aimed.corners);
});
watch(WORK, () => {
  const { running, percent, text, picture } = props.work ?? {};
  [enough.hidden, cancel.hidden, bar.hidden] = [!running, !running, !running];
  open.hidden = Boolean(running);
  bar.firstElementChild.style.width = `${Number(percent) || 0}%`;
  if (picture) { drawn.src = picture; ofModel.hidden = false; }
  if (running) looking.textContent = '';
  say(text);
  clicked();
});
