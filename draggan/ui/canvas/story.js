// The history as a strip of thumbnails, beside the picture in another column, in the element of the class dg-story. The
// server says which pictures there are; what they look like the page remembers from when it showed them.

const THUMB = 56;              // CSS px
const thumbs = new Map();      // by number, as data URLs
const small = layer();

// The picture on the screen is that of now.
function photograph() {
  const now = (props.story ?? []).find(({ kind }) => kind === 'now')?.number;
  if (!now || thumbs.has(now)) return;
  const far = Math.min(1, 2 * THUMB / Math.max(...size));
  [small.width, small.height] = size.map((n) => Math.max(1, Math.round(n * far)));
  small.getContext('2d').drawImage(picture, 0, 0, small.width, small.height);
  thumbs.set(now, small.toDataURL('image/jpeg', 0.8));
  showStory();
}

const KINDS = { past: 'before', now: 'the picture that is shown', ahead: 'undone', branch: 'another way that was tried' };

function showStory() {
  const box = document.querySelector('.dg-story'), list = box?.querySelector('ol'), story = props.story ?? [];
  if (!list) return;
  const numbers = new Set(story.map(({ number }) => number));
  for (const number of thumbs.keys()) if (!numbers.has(number)) thumbs.delete(number);
  list.replaceChildren(...story.map(({ number, kind }, k) => {
    const row = document.createElement('li'), button = document.createElement('button');
    Object.assign(button, { type: 'button', title: `Picture ${k + 1}: ${KINDS[kind]}`, disabled: Boolean(props.busy) });
    button.setAttribute('aria-label', button.title);
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
    row.append(button);
    return row;
  }));
  box.hidden = story.length < 2;
  const now = list.querySelector('[aria-current]');
  if (now) list.scrollLeft = now.offsetLeft - list.clientWidth / 2;
}

function takeStory() {
  showStory();
  // A picture that was on the screen before its number came.
  setTimeout(() => { if (onScreen === props.frame && !props.busy) photograph(); }, 60);
}
