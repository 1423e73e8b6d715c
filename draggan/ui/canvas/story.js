// The history as a strip of thumbnails, beside the picture in another column, in the element of the class dg-story. The
// server says which pictures there are; what they look like the page remembers from when it showed them.

const THUMB = 56;              // CSS px
const small = layer();
// By number, as data URLs; of this tab's work they outlive a reload.
const THUMBS = 'draggan-thumbs', ofWork = () => sessionStorage.getItem('draggan-tab') ?? '';
const thumbs = new Map(rememberedThumbs());
// Numbers of those that were taken since the page was loaded: another one may be of work that was set aside, whose
// numbers are given anew.
const taken = new Set();
function rememberedThumbs() {
  try {
    const { work, all } = JSON.parse(sessionStorage.getItem(THUMBS) ?? '{}');
    return work === ofWork() ? all : [];
  } catch { return []; }
}
function rememberThumbs() {
  try { sessionStorage.setItem(THUMBS, JSON.stringify({ work: ofWork(), all: [...thumbs] })); } catch { /* full: numbers do */ }
}

// The picture on the screen is that of now.
function photograph() {
  const now = (props.story ?? []).find(({ kind }) => kind === 'now')?.number;
  if (!now || taken.has(now)) return;
  taken.add(now);
  const far = Math.min(1, 2 * THUMB / Math.max(...size));
  [small.width, small.height] = size.map((n) => Math.max(1, Math.round(n * far)));
  small.getContext('2d').drawImage(picture, 0, 0, small.width, small.height);
  thumbs.set(now, small.toDataURL('image/jpeg', 0.8));
  rememberThumbs();
  showStory();
}

const KINDS = { past: 'before', now: 'the picture that is shown', ahead: 'undone', branch: 'another way that was tried' };

function showStory() {
  const box = document.querySelector('.dg-story'), list = box?.querySelector('ol'), story = props.story ?? [];
  if (!list) return;
  const numbers = new Set(story.map(({ number }) => number));
  // Before the first picture nobody knows what there is.
  if (story.length) for (const number of thumbs.keys()) if (!numbers.has(number)) thumbs.delete(number);
  const focused = list.contains(document.activeElement) ? [...list.children].indexOf(document.activeElement.parentElement) : -1;
  list.replaceChildren(...story.map(({ number, kind, label }, k) => {
    const row = document.createElement('li'), button = document.createElement('button');
    const name = document.createElement('span'), away = document.createElement('button');
    Object.assign(button, { type: 'button', title: `${label}: ${KINDS[kind]}`, disabled: Boolean(props.busy) });
    button.setAttribute('aria-label', `Picture ${k + 1}, ${button.title}${kind === 'now' ? '' : '. Delete removes it'}`);
    Object.assign(away, { type: 'button', className: 'dg-forget', textContent: '×', title: `Delete “${label}” from the history` });
    Object.assign(away, { tabIndex: -1, disabled: Boolean(props.busy) });
    away.setAttribute('aria-label', away.title);
    Object.assign(name, { className: 'dg-story-label', textContent: label });
    button.dataset.kind = kind;
    if (kind === 'now') button.setAttribute('aria-current', 'true');
    if (thumbs.has(number)) {
      const image = document.createElement('img');
      Object.assign(image, { src: thumbs.get(number), alt: '' });
      button.append(image);
    } else button.append(String(k + 1));
    button.addEventListener('click', () => {
      if (props.busy || kind === 'now') return;
      props.value = structuredClone({ ...state, place: number });
      trigger('go_to', {});
    });
    const forget = () => {
      if (props.busy || kind === 'now') return;
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
  if (focused >= 0) list.children[Math.min(focused, story.length - 1)]?.firstElementChild.focus({ preventScroll: true });
  box.hidden = story.length < 2;
  const now = list.querySelector('[aria-current]');
  if (now) list.scrollLeft = now.offsetLeft - list.clientWidth / 2;
}

function takeStory() {
  showStory();
  // A picture that was on the screen before its number came.
  setTimeout(() => { if (onScreen === props.frame && !props.busy) photograph(); }, 60);
}
