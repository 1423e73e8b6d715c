// The loupe: the pixels around the place where a point is put, beside the pointer or above the finger that covers them.

const loupe = element.querySelector('.dg-loupe'), onLoupe = loupe.getContext('2d');
const ACROSS = 116;      // CSS px
const PLAIN = 9;         // CSS px to a pixel of the picture from which a mouse needs no loupe
let wanted = false;      // its key is held
let nudgedAt = null;     // image pixel that keys have moved a dot to, for a moment

// Image pixel to be seen; null: none.
function magnified() {
  if (props.busy || peek !== null || !props.frame) return null;
  if (wanted) return press?.at ?? cross ?? hover;
  if (tool !== 'points') return null;
  if (press) return press.finger || (press.pulled && scale() < PLAIN) ? press.at : null;
  return nudgedAt ?? cross;
}

function paintLoupe() {
  const at = magnified();
  loupe.hidden = !at;
  if (!at) return;
  const dense = window.devicePixelRatio || 1, [x, y] = place(at), middle = ACROSS / 2;
  loupe.width = loupe.height = Math.round(ACROSS * dense);
  onLoupe.setTransform(dense, 0, 0, dense, 0, 0);
  // Not where it is looked at, and not where the hand is.
  const finger = press?.finger, off = finger ? 54 : 22, most = ink.clientWidth - ACROSS;
  let left = finger ? x - middle : x + off, top = y - off - ACROSS;
  if (top < (finger ? -90 : -30)) {
    top = finger ? y - middle : y + off;
    if (finger) left = x - off - ACROSS;
  }
  if (left > most && !finger) left = x - off - ACROSS;
  if (left < 0) left = finger && top > y - off - ACROSS ? x + off : 0;
  loupe.style.transform = `translate(${Math.round(Math.min(left, most) - MARGIN)}px, ${Math.round(top - MARGIN)}px)`;

  const each = Math.min(Math.max(Math.round(4 * scale()), 6), 14), count = Math.ceil(ACROSS / each) + 2;
  const [fromX, fromY] = at.map((v) => Math.floor(v) - (count >> 1));
  onLoupe.fillStyle = '#101218';
  onLoupe.fillRect(0, 0, ACROSS, ACROSS);
  onLoupe.imageSmoothingEnabled = false;
  onLoupe.drawImage(picture, fromX, fromY, count, count,
    middle - (at[0] - fromX + 0.5) * each, middle - (at[1] - fromY + 0.5) * each, count * each, count * each);
  for (const [width, colour] of [[3, 'rgba(16, 18, 24, 0.75)'], [1, '#ffffff']]) {
    onLoupe.lineWidth = width;
    onLoupe.strokeStyle = colour;
    onLoupe.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      onLoupe.moveTo(middle + dx * each / 2, middle + dy * each / 2);
      onLoupe.lineTo(middle + dx * 26, middle + dy * 26);
    }
    onLoupe.rect(middle - each / 2, middle - each / 2, each, each);
    onLoupe.stroke();
  }
  const where = at.map((v) => Math.round(v)).join(', ');
  onLoupe.font = '600 11px system-ui, sans-serif';
  onLoupe.textAlign = 'center';
  onLoupe.lineWidth = 3;
  onLoupe.strokeStyle = 'rgba(16, 18, 24, 0.85)';
  onLoupe.strokeText(where, middle, ACROSS - 12);
  onLoupe.fillStyle = '#ffffff';
  onLoupe.fillText(where, middle, ACROSS - 12);
}
