// What came before: every drag is a film, from the starting picture through all drags to the one on the screen.
// Frames are drawn by the server when they are asked for, and kept here for as long as the film is the same.

const slider = element.querySelector('.dg-film input'), marks = element.querySelector('.dg-film datalist');
const before = element.querySelector('#dg-before'), goOn = element.querySelector('#dg-go-on');
const kept = new Map();        // frames by number, as data URLs
let peek = null;               // number of the frame that is looked at; null: the picture of now

function peekAt(number) {
  const count = props.film?.count ?? 0;
  if (props.busy || !count || number >= count - 1) number = null;
  if (number === peek) return;
  peek = number;
  if (peek !== 0) { comparingNow = false; setBefore(false); }
  slider.value = peek ?? Math.max(count - 1, 0);
  goOn.disabled = peek === null;
  stage.dataset.peek = peek ?? '';
  slider.setAttribute('aria-valuetext', peek === null ? 'now' : `frame ${peek + 1} of ${count}`);
  sayPeek(count);
  if (peek === null) showFrame();
  else if (kept.has(peek)) showKept();
  else ask();
  draw();
}

function showKept() { show(kept.get(peek), undefined, peek); }

// The line under the picture says what is looked at. Not aloud: the slider does.
function sayPeek(count) {
  const which = peek ? `Picture ${peek + 1} of ${count} on the way.` : 'The original picture.';
  const text = comparingNow ? which : `${which} Use goes on from it; a click on the picture comes back.`;
  sayInLine(peek === null ? null : { text: window.dragganHand.words(text), kind: '', quiet: true });
}

// One at a time, and then the newest one that is wanted.
let asking = 0;                // when; 0: nothing is asked for
function ask() {
  if (peek === null || kept.has(peek) || (asking && performance.now() - asking < 3000)) return;
  asking = performance.now();
  props.value = structuredClone({ ...state, frame: peek, film: props.film.key });
  trigger('look', {});
}

function takeFilm() {
  kept.clear();
  asking = 0;
  const count = props.film?.count ?? 0;
  slider.max = Math.max(count - 1, 0);
  slider.disabled = before.disabled = count < 2;
  marks.replaceChildren(...(props.film?.ends ?? []).map((at) => Object.assign(document.createElement('option'), { value: at })));
  const looked = peek !== null;
  peek = null;
  comparingNow = false;
  setBefore(false);
  if (looked) sayPeek(count);
  slider.value = slider.max;
  goOn.disabled = true;
  stage.dataset.peek = '';
  if (looked) showFrame();
  draw();
}

function takeSeen() {
  const { film, number, frame } = props.seen ?? {};
  asking = 0;
  if (!frame) return peekAt(null);
  if (film !== props.film?.key) return ask();
  kept.set(number, frame);
  if (number === peek) showKept();
  else ask();
}

slider.addEventListener('input', () => peekAt(Number(slider.value)));
// While a button or a key is held, and no longer.
let comparingNow = false;
function compare(on) {
  if (on === comparingNow) return;
  comparingNow = on;
  peekAt(on ? 0 : null);
}
// A short press leaves it on until the next one; a long one lasts as long as it is held.
const SHORT = 350;             // ms
let pressedAt = 0, stays = false;
function setBefore(on) {
  stays = on;
  before.setAttribute('aria-pressed', on);
}
const comparing = (on) => (event) => {
  if (event.type.startsWith('key') && ((event.key !== ' ' && event.key !== 'Enter') || event.repeat)) return;
  if (event.type.startsWith('key')) event.preventDefault();
  if (on) {
    if (stays) { setBefore(false); pressedAt = 0; return compare(false); }
    pressedAt = performance.now();
    return compare(true);
  }
  if (stays) return undefined;
  if (pressedAt && /up$/.test(event.type) && performance.now() - pressedAt < SHORT) { setBefore(true); pressedAt = 0; return undefined; }
  pressedAt = 0;
  return compare(false);
};
for (const name of ['pointerdown', 'keydown']) before.addEventListener(name, comparing(true));
for (const name of ['pointerup', 'pointerleave', 'pointercancel', 'keyup', 'blur']) before.addEventListener(name, comparing(false));
goOn.addEventListener('click', () => {
  if (peek === null || props.busy) return;
  props.value = structuredClone({ ...state, frame: peek });
  trigger('go_on', {});
});
