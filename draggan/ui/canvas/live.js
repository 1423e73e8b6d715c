// The tool Live: the picture is held and follows the pointer. See protocol.md, "A live drag".

const REST = 1000;       // ms without news after which a pointer at rest is reported only that often
const SLOW = 1500;       // ms without a picture after which a person is told that it is late
const TAUT = '#ffb224';
// the live drag: {key, start, at, pair, finger, end, stop, seen, handles, taut, rests, news, told, flying, timer, since, late}
let hold = null;

// Tell the server where the pointer is and show the frame it answers with; then again. One call at a time.
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
    pull.taut = Boolean(answer.taut);
    stage.dataset.taut = pull.taut;                     // for those who measure
    pull.rests = answer.rests;
    pull.news = performance.now();
    show(answer.frame, answer.handles);
    hasCome(pull);
  }
  steer();
}

// `pair`: number of the pair whose dot was taken, and then all pairs are dragged; undefined: the picture itself was.
function takeHold(at, pair, finger) {
  const key = crypto.getRandomValues(new Uint32Array(4)).join('-');
  hold = { key, start: at, at, pair, finger, end: false, stop: false, seen: 0, taut: false, told: 0, news: performance.now() };
  hold.since = hold.news;
  watchOver(hold);
  props.value = structuredClone({ ...state, pull: { key, at, pair: pair ?? null } });
  trigger('pull', {});
}

// Number, among the dots that move, of the one that is held.
const mineOf = (pull) => Math.max(active().indexOf(pull.pair), 0);

// The content is not where the pointer is, and does not rest short of it: there are pictures to come.
function isBehind(pull) {
  const apart = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
  if (pull.rests && apart(pull.rests, pull.at) < 0.01) return false;
  const there = pull.handles?.[mineOf(pull)] ?? state.points[pull.pair] ?? pull.start;
  return apart(place(pull.at), place(there)) > DOT;
}

// On a busy machine, or a slow line, the words of the server are as late as its pictures.
function watchOver(pull) {
  const now = performance.now();
  if (pull !== hold || !isBehind(pull)) {
    pull.since = now;
    catchUp(pull, false);
  } else if (now - pull.since > SLOW) catchUp(pull, true);
  if (pull === hold) setTimeout(() => watchOver(pull), SLOW / 6);
}

// One picture after a long time does not make it follow, and a sentence that flickers cannot be read.
function hasCome(pull) {
  const now = performance.now();
  if (now - pull.since < SLOW / 2 || !isBehind(pull)) catchUp(pull, false);
  pull.since = now;
}

function catchUp(pull, late) {
  if (Boolean(pull.late) === late) return;
  pull.late = late;
  sayLate(pull);
}

function sayLate({ late, end }) {
  const text = end ? 'Catching up: pictures take a while just now. Stop or Esc stops it where it is.'
    : 'Catching up with your hand: pictures take a while just now.';
  sayInLine(late ? { text, kind: 'run' } : null);
}

// Dots on the content, wherever it has got to, and from each an elastic line to where it is pulled.
function paintPull() {
  const moving = active(), pairs = hold.pair === undefined ? [[hold.start, hold.at]]
    : moving.map((i) => [state.points[i].slice(0, 2), i === hold.pair ? hold.at : state.points[i].slice(2)]);
  const there = pairs.map(([start], i) => place(hold.handles?.[i] || start));
  const mine = mineOf(hold);
  const number = (i) => hold.pair === undefined ? '' : moving[i] + 1;
  pairs.forEach(([, aim], i) => elastic(there[i], place(aim), i === mine && hold.taut));
  pairs.forEach(([, aim], i) => { if (i !== mine) dot(place(aim), TARGET, number(i), true); });
  if (!hold.end) ring(place(hold.at), hold.finger ? 30 : 9);      // around a finger, or it could not be seen
  there.forEach((at, i) => { if (i === mine) ring(at, 13); dot(at, HANDLE, number(i), false); });
}

// The longer, the thinner; broken and amber where the content follows no farther.
function elastic(from, to, taut) {
  const length = Math.hypot(to[0] - from[0], to[1] - from[1]);
  if (length < 4) return;
  const width = Math.max(2, 6 - length / 50);
  onInk.lineCap = 'round';
  for (const [wide, colour] of [[width + 3, 'rgba(16, 18, 24, 0.75)'], [width, taut ? TAUT : '#ffffff']]) {
    onInk.strokeStyle = colour;
    onInk.lineWidth = wide;
    onInk.setLineDash(taut ? [1, 10] : []);
    onInk.beginPath();
    onInk.moveTo(from[0], from[1]);
    onInk.lineTo(to[0], to[1]);
    onInk.stroke();
  }
  onInk.setLineDash([]);
}

function letGo(at) {
  if (!hold || hold.end) return;
  if (at) hold.at = at;
  hold.end = true;
  // On its way there, it can be stopped like any other drag.
  const stop = document.querySelector('#dg-stop');
  if (stop && props.busy) stop.disabled = false;
  if (hold.late) sayLate(hold);
  steer();
  draw();
}
