// The mask: painted and erased with a brush, and shown as what is left bright.

const brush = element.querySelector('.dg-brush'), brushSize = brush.querySelector('input');
const mask = layer(), shade = layer(), onMask = mask.getContext('2d', { willReadFrequently: true });
const onShade = shade.getContext('2d');
let painted = false;

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

// What its button does: where nothing is painted, everything is then.
const INVERT = [['Fill', 'Paint everything (I), to erase what must stay'], ['Invert', 'Swap what may change and what stays (I)']];
function invertMask() {
  if (props.busy || press) return;
  onMask.globalCompositeOperation = 'xor';
  onMask.fillStyle = '#fff';
  onMask.fillRect(0, 0, mask.width, mask.height);
  endStroke();
}
element.querySelector('#dg-invert').addEventListener('click', invertMask);

function showBrush() {
  brush.querySelector('output').textContent = `${brushPixels()} px`;
}

function resizeBrush(by) {
  brushSize.value = Math.round(Math.max(1, Number(brushSize.value) + by * Math.max(1, brushSize.value / 8)));
  showBrush();
  draw();
}

function paintMask() {
  if (!painted) return;
  const [wide, high] = [picture.clientWidth, picture.clientHeight];
  const [x, y, w, h] = [view.x, view.y, view.zoom * wide, view.zoom * high];
  onInk.save();
  onInk.beginPath();
  onInk.rect(MARGIN, MARGIN, wide, high);
  onInk.clip();
  // What is held still is dimmed; hatching tells it from a dark part of the picture.
  onShade.globalCompositeOperation = 'copy';
  onShade.fillStyle = '#0b0d14';
  onShade.fillRect(0, 0, shade.width, shade.height);
  onShade.globalCompositeOperation = 'destination-out';
  onShade.drawImage(mask, 0, 0);
  onInk.imageSmoothingQuality = 'high';
  // What a drag has come to is judged without: a line says enough until the mask is worked on again.
  const plain = !props.busy && (tool === 'points' || tool === 'pull') && (props.film?.count ?? 0) > 1;
  onInk.globalAlpha = tool === 'points' || tool === 'pull' || props.busy ? 0.38 : 0.62;
  onInk.imageSmoothingEnabled = scale() < PIXELS_SEEN;
  if (!plain) onInk.drawImage(shade, MARGIN + x, MARGIN + y, w, h);
  onInk.globalAlpha = 1;
  outline(wide, high, x, y, w, h);
  onInk.restore();
}

// A light line with a dark one inside, along the border of the painted region: seen on any picture.
const edge = layer(), onEdge = edge.getContext('2d');
function outline(wide, high, x, y, w, h) {
  edge.width = Math.max(Math.round(wide), 1); edge.height = Math.max(Math.round(high), 1);
  onEdge.imageSmoothingEnabled = scale() < PIXELS_SEEN;
  const ringOf = (width, colour) => {
    onEdge.globalCompositeOperation = 'source-over';
    for (let k = 0; k < 8; k++) {
      onEdge.drawImage(mask, x + width * Math.cos(k * Math.PI / 4), y + width * Math.sin(k * Math.PI / 4), w, h);
    }
    onEdge.globalCompositeOperation = 'source-in';
    onEdge.fillStyle = colour;
    onEdge.fillRect(0, 0, wide, high);
    onEdge.globalCompositeOperation = 'destination-out';
    onEdge.drawImage(mask, x, y, w, h);
    onInk.drawImage(edge, MARGIN, MARGIN);
    onEdge.clearRect(0, 0, wide, high);
  };
  ringOf(2.5, '#101218');
  ringOf(1.25, '#ffffff');
}

// The mask as it was told last: a stroke was given up.
function restoreMask() {
  const url = state.mask;
  if (!url) {
    onMask.clearRect(0, 0, mask.width, mask.height);
    painted = false;
    draw();
    return;
  }
  const image = new Image();
  image.onload = () => {
    if (state.mask !== url) return;
    onMask.globalCompositeOperation = 'copy';
    onMask.drawImage(image, 0, 0);
    onMask.globalCompositeOperation = 'source-over';
    painted = true;
    draw();
  };
  image.src = url;
}

element.querySelector('#dg-clear-mask').addEventListener('click', () => {
  if (props.busy || !state.mask) return;
  state.mask = null;
  restoreMask();
  commit();
});
brushSize.addEventListener('input', () => { showBrush(); draw(); });
