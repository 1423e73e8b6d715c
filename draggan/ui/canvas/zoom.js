// What of the picture is seen, and how large: wheel, two fingers, Space or the middle button with a drag, buttons.

const view = { zoom: 1, x: 0, y: 0 };   // 1: the whole picture; x, y: its corner, in CSS px from the frame's
const PIXELS_SEEN = 16;                 // CSS px to a pixel of the picture from which pixels are shown as squares
const zoomLabel = element.querySelector('[data-zoom=fit]');
const fingers = new Map();              // where they are on the screen, by pointer
let pinch = null;                       // two fingers: {apart, middle}
let pan = null;                         // the pointer that moves the picture: {id, x, y}
let spaceHeld = false, panned = false;

// 100 %: a pixel of the picture is one of the page.
function actual() { return size[0] / (picture.clientWidth || 1); }

// Show at that zoom; what is at `around`, in CSS px from the frame's corner, stays there.
function look(zoom, around = null, moved = [0, 0]) {
  const [w, h] = [picture.clientWidth, picture.clientHeight], [ax, ay] = around || [w / 2, h / 2];
  const least = Math.min(1, actual()), most = Math.min(Math.max(4, 40 * actual()), 64);
  const next = Math.min(Math.max(zoom, least), most), grown = next / view.zoom;
  // A picture larger than the frame fills it; a smaller one is in its middle.
  const inside = (corner, length) => {
    const free = length * (1 - next);
    return free >= 0 ? free / 2 : Math.min(0, Math.max(corner, free));
  };
  view.x = inside(ax - (ax - view.x) * grown + moved[0], w);
  view.y = inside(ay - (ay - view.y) * grown + moved[1], h);
  view.zoom = next;
  picture.style.transform = next === 1 ? '' : `translate(${view.x}px, ${view.y}px) scale(${next})`;
  picture.style.imageRendering = scale() >= PIXELS_SEEN ? 'pixelated' : '';
  zoomLabel.textContent = size[0] > 1 ? `${Math.round(100 * scale())} %` : '– %';
  stage.dataset.zoom = next;
  noticeCrowd();
  draw();
}

function fit() { look(view.zoom === 1 ? actual() : 1); }

// A place on the screen, in CSS px of the untransformed page from the frame's corner.
function inFrame(clientX, clientY) {
  const r = ink.getBoundingClientRect(), by = ink.clientWidth / r.width;
  return [(clientX - r.left) * by - MARGIN, (clientY - r.top) * by - MARGIN];
}

ink.addEventListener('wheel', (event) => {
  event.preventDefault();
  const lines = event.deltaMode === 1 ? 16 : 1, by = (event.deltaY || event.deltaX) * lines;
  if (event.altKey && (tool === 'mask' || tool === 'erase')) return resizeBrush(-Math.sign(by));
  look(view.zoom * Math.exp(-Math.min(Math.max(by, -200), 200) * (event.ctrlKey ? 0.01 : 0.002)),
    inFrame(event.clientX, event.clientY));
}, { passive: false });

const spread = () => {
  const [a, b] = [...fingers.values()];
  return { apart: Math.hypot(a[0] - b[0], a[1] - b[1]) || 1, middle: [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2] };
};

// Before the tools hear of it: true where it is about the view and not about the picture.
function viewPressed(event) {
  if (event.pointerType === 'touch') {
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (fingers.size === 2) {
      giveUp();
      pinch = spread();
      ink.setPointerCapture(event.pointerId);
    }
    if (fingers.size > 1) return true;
  }
  if (event.button === 1 || (event.button === 0 && spaceHeld)) {
    event.preventDefault();
    ink.setPointerCapture(event.pointerId);
    pan = { id: event.pointerId, x: event.clientX, y: event.clientY };
    panned = true;
    stage.dataset.panning = '';
    return true;
  }
  return false;
}

function viewMoved(event) {
  if (fingers.has(event.pointerId)) fingers.set(event.pointerId, [event.clientX, event.clientY]);
  if (pinch && fingers.size >= 2) {
    const now = spread(), [fx, fy] = inFrame(...pinch.middle), [tx, ty] = inFrame(...now.middle);
    look(view.zoom * now.apart / pinch.apart, [fx, fy], [tx - fx, ty - fy]);
    pinch = now;
    return true;
  }
  if (pan?.id === event.pointerId) {
    look(view.zoom, [0, 0], [event.clientX - pan.x, event.clientY - pan.y]);
    Object.assign(pan, { x: event.clientX, y: event.clientY });
    return true;
  }
  return Boolean(pinch);
}

function viewReleased(event) {
  fingers.delete(event.pointerId);
  if (pan?.id === event.pointerId) {
    pan = null;
    delete stage.dataset.panning;
    return true;
  }
  if (!pinch) return false;
  // Until both are off: the last one must not set a point.
  if (!fingers.size) pinch = null;
  return true;
}

element.querySelector('.dg-zoom').addEventListener('click', (event) => {
  const by = event.target.closest('button')?.dataset.zoom;
  if (by === 'fit') fit();
  else if (by) look(view.zoom * (by === 'in' ? 1.5 : 1 / 1.5));
});
