// The history as a strip of thumbnails, beside the picture in another column, in the element of the class dg-story. The
// server says which pictures there are; what they look like the page remembers from when it showed them.

const THUMB = 56;              // CSS px
// By number, as data URLs; of this tab's work they outlive a reload.
const THUMBS = 'draggan-thumbs', ofWork = () => sessionStorage.getItem('draggan-tab') ?? '';
const remembered = rememberedStory();
const thumbs = new Map(remembered.all);
// What pictures are called, by number: a name stays whatever is deleted.
const names = new Map(remembered.names);
// Numbers of those that were taken since the page was loaded: another one may be of work that was set aside, whose
// numbers are given anew.
const taken = new Set();
// Of pictures that were deleted: undo may bring them back.
const deleted = new Map();
function rememberedStory() {
  try {
    const { work, all, names: called } = JSON.parse(sessionStorage.getItem(THUMBS) ?? '{}');
    // A duplicated tab goes on with the same work under a name of its own.
    const isSame = work === ofWork() || work === window.dragganStorage?.source();
    return isSame ? { all, names: called ?? [] } : { all: [], names: [] };
  } catch { return { all: [], names: [] }; }
}
function rememberStory() {
  try { sessionStorage.setItem(THUMBS, JSON.stringify({ work: ofWork(), all: [...thumbs], names: [...names] })); } catch { /* full: numbers do */ }
}

// The picture on the screen is that of now.
function photograph() {
  const now = (props.story ?? []).find(({ kind }) => kind === 'now')?.number;
  if (!now || taken.has(now)) return;
  taken.add(now);
  thumbs.set(now, window.dragganCanvas.thumbnail(2 * THUMB, 0.8));
  rememberStory();
  showStory();
}

let shownNow = 0;              // number of the picture that the strip has come to
const KINDS = { past: 'before', now: 'the picture that is shown', ahead: 'undone', branch: 'another way that was tried' };

function showStory() {
  const list = document.querySelector('.dg-story ol'), story = props.story ?? [];
  if (!list) return;
  const numbers = new Set(story.map(({ number }) => number));
  // Before the first picture nobody knows what there is.
  if (story.length) for (const number of thumbs.keys()) if (!numbers.has(number)) thumbs.delete(number);
  for (const [number, image] of deleted) {
    if (!numbers.has(number)) continue;
    thumbs.set(number, image);
    deleted.delete(number);
  }
  const scrolled = list.scrollTop;
  const focused = list.contains(document.activeElement) ? [...list.children].indexOf(document.activeElement.parentElement) : -1;
  for (const number of [...numbers].sort((a, b) => a - b)) if (!names.has(number)) names.set(number, 1 + Math.max(0, ...names.values()));
  list.replaceChildren(...story.map(({ number, kind, label, origin }, k) => {
    const row = document.createElement('li'), button = document.createElement('button');
    const name = document.createElement('span'), away = document.createElement('button'), which = document.createElement('b');
    const from = numbers.has(origin) ? ` from picture ${names.get(origin)}` : '';
    Object.assign(button, { type: 'button', title: `${label}${from}: ${KINDS[kind]}`, disabled: Boolean(props.busy) });
    button.setAttribute('aria-label', `Picture ${names.get(number)}, ${button.title}${kind === 'now' ? '' : '. Delete removes it'}`);
    Object.assign(away, { type: 'button', className: 'dg-forget', textContent: '×', title: `Delete picture ${names.get(number)} from the history; Undo brings it back` });
    Object.assign(away, { tabIndex: -1, disabled: Boolean(props.busy) });
    away.setAttribute('aria-label', away.title);
    Object.assign(name, { className: 'dg-story-label', textContent: from ? `from ${names.get(origin)}` : label.replace('Seed ', '#') });
    // Work on another picture begins here.
    row.toggleAttribute('data-first', !from && k > 0);
    button.dataset.kind = kind;
    if (kind === 'now') button.setAttribute('aria-current', 'true');
    if (thumbs.has(number)) {
      const image = document.createElement('img');
      Object.assign(image, { src: thumbs.get(number), alt: '' });
      button.append(image);
    }
    which.textContent = names.get(number);
    button.append(which);
    button.addEventListener('click', () => {
      if (props.busy || kind === 'now') return;
      props.value = structuredClone({ ...state, place: number });
      trigger('go_to', {});
    });
    const forget = () => {
      if (props.busy || kind === 'now') return;
      // Numbers of deleted pictures are given to no other.
      if (thumbs.has(number)) deleted.set(number, thumbs.get(number));
      // The next one comes under the pointer, and is not meant. A finger points at nothing in between.
      if (matchMedia('(hover: hover)').matches) list.dataset.still = '';
      props.value = structuredClone({ ...state, place: number });
      trigger('forget', {});
    };
    away.addEventListener('click', forget);
    button.addEventListener('keydown', (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by) list.children[k + by]?.firstElementChild.focus();
      else if (event.key === 'Delete' || event.key === 'Backspace') forget();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    row.append(button, name);
    if (kind !== 'now') row.append(away);
    return row;
  }));
  list.onpointermove = () => delete list.dataset.still;
  if (focused >= 0) list.children[Math.min(focused, story.length - 1)]?.firstElementChild.focus({ preventScroll: true });
  // Another picture is shown: it comes into sight, and else nothing moves.
  const now = list.querySelector('[aria-current]')?.parentElement, number = story.find(({ kind }) => kind === 'now')?.number;
  list.scrollTop = scrolled;
  if (now && number !== shownNow) list.scrollTop = Math.min(Math.max(scrolled, now.offsetTop + now.offsetHeight - list.clientHeight), now.offsetTop);
  shownNow = number;
}

function takeStory() {
  showStory();
  // A picture that was on the screen before its number came.
  setTimeout(() => { if (onScreen === props.frame && !props.busy) photograph(); }, 60);
}
