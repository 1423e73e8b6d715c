// Pictures to start with, drawn by the server when it has nothing else to do, and favourites, which this browser keeps.
// All that comes from the server is data: addresses of pictures, numbers, texts. What crosses: component.py.

const q = (what) => element.querySelector(what);
const suggested = q('.dg-suggested'), more = q('.dg-more'), heart = q('.dg-heart'), said = q('.dg-starts-said');
const box = q('.dg-favourites'), kept = box.querySelector('ol');
const QUIET = 600;             // ms without another picture, before others are asked for
const PATIENCE = 45e3;         // ms that they have to come
const MOST = 60, THUMB = 128;  // favourites; pixels
const rows = new Map();        // what has come, by key: {first, pictures, done}
let timer = null, asked = '', askedAt = 0, visible = false;

const { busy, isLookedBack, thumbnail } = window.dragganCanvas;
const photograph = () => thumbnail(THUMB, 0.85);
const say = (text) => { said.textContent = text; };
const send = (event, value) => { props.value = value; trigger(event, {}); };

function tile(address, label, act) {
  const item = document.createElement('li'), button = document.createElement('button');
  Object.assign(button, { type: 'button', title: label });
  button.setAttribute('aria-label', label);
  if (address) {
    const image = document.createElement('img');
    Object.assign(image, { src: address, alt: '' });
    button.append(image);
  }
  button.addEventListener('click', () => { if (!busy()) act(); });
  item.append(button);
  return item;
}

// Pictures of the model

function showRow() {
  const row = rows.get(props.of?.key), there = row?.pictures ?? [];
  const items = there.map(({ seed, picture }) => {
    const item = tile(picture, `Start with seed ${seed}`, () => send('take_start', { seed }));
    if (seed === props.of?.seed) item.firstChild.setAttribute('aria-current', 'true');
    return item;
  });
  const waiting = row && !row.done ? props.row - there.length : 0;
  for (let i = 0; i < waiting; i += 1) {
    const item = tile('', 'A picture that is being drawn', () => {});
    item.firstChild.disabled = true;
    items.push(item);
  }
  const at = [...suggested.querySelectorAll('button')].indexOf(document.activeElement);
  suggested.replaceChildren(...items);
  if (at >= 0) suggested.querySelectorAll('button')[at]?.focus({ preventScroll: true });
}

function ask(first) {
  const key = props.of?.key;
  if (!key) return;
  rows.set(key, { first, pictures: [], done: false });
  asked = key;
  askedAt = performance.now();
  send('suggest', { key, first });
  showRow();
}

// Only what is looked at, and only once nothing else is under way.
function wish() {
  clearTimeout(timer);
  if (!visible || !props.of || (rows.get(props.of.key)?.pictures.length ?? 0) > 0) return;
  timer = setTimeout(() => {
    const waits = asked === props.of.key && performance.now() - askedAt < PATIENCE;
    if (waits || busy() || document.hidden) { wish(); return; }
    ask(0);
  }, QUIET);
}

function take() {
  const { key, pictures, done } = props.suggested ?? {}, row = rows.get(key);
  if (!row) return;
  Object.assign(row, { pictures, done });
  if (done) asked = '';
  if (key !== props.of?.key) return;
  if (done && pictures.length < props.row) say('The machine is busy. “More” asks once more.');
  showRow();
}

more.addEventListener('click', () => {
  if (busy()) return;
  const row = rows.get(props.of?.key);
  say('');
  ask(row ? row.first + row.pictures.length : 0);
});

new IntersectionObserver(([{ isIntersecting }]) => { visible = isIntersecting; wish(); }).observe(element);

// Favourites. Their recipes are apart from what is shown of them.

const NAME = `draggan favourites ${location.pathname}`;
const channel = 'BroadcastChannel' in window ? new BroadcastChannel(NAME) : null;
const { settled, transact } = window.dragganDatabase(NAME, ['shown', 'recipes']);
let all = [], asking = null, count = 0;

async function load() {
  const [names, shown] = await transact('readonly', (store) =>
    Promise.all([settled(store.getAllKeys()), settled(store.getAll())]));
  all = names.map((name, i) => ({ name, ...shown[i] })).sort((a, b) => b.at - a.at);
  showFavourites();
}

function showFavourites() {
  box.hidden = !all.length;
  kept.replaceChildren(...all.map(({ name, title, picture }) => {
    const item = tile(picture, `Open ${title}`, () => openFavourite(name, title)), away = document.createElement('button');
    Object.assign(away, { type: 'button', className: 'dg-away', textContent: '×', title: `Remove ${title} from the favourites` });
    away.setAttribute('aria-label', away.title);
    away.addEventListener('click', () => remove(name, title));
    item.append(away);
    return item;
  }));
}

async function openFavourite(name, title) {
  const recipe = await transact('readonly', (_, recipes) => settled(recipes.get(name))).catch(() => null);
  if (recipe) send('open_favourite', { title, recipe });
  else say(`${title} is no longer there.`);
}

async function remove(name, title) {
  const at = all.findIndex((one) => one.name === name);
  await transact('readwrite', (shown, recipes) => { shown.delete(name); recipes.delete(name); }).catch(() => {});
  channel?.postMessage('');
  await load().catch(() => {});
  marked();
  say(`${title} was removed.`);
  const next = kept.querySelectorAll('.dg-away')[Math.min(at, all.length - 1)];
  (next ?? heart).focus({ preventScroll: true });
}

// A favourite is the picture of now: a frame of the film that is looked at in its place goes away first.
function comeBack() {
  const slider = document.querySelector('.dg-film input');
  slider.value = slider.max;
  slider.dispatchEvent(new Event('input', { bubbles: true }));
}

heart.addEventListener('click', () => {
  if (busy() || !props.of) return;
  if (heart.dataset.name) { remove(heart.dataset.name, 'This picture'); return; }
  if (all.length >= MOST) { say(`There are ${MOST} favourites, which is as many as are kept. Remove one first.`); return; }
  const back = isLookedBack();
  if (back) comeBack();
  // Then the canvas has the picture again by the time of the answer.
  asking = { count: ++count, number: props.of.number, picture: back ? null : photograph() };
  send('favour', { count });
});

const names = new Map();       // of this tab's pictures that are favourites, by number
async function keep() {
  const { count: of, error, digest, title, recipe } = props.kept ?? {};
  if (!asking || of !== asking.count) return;
  const { number } = asking, same = number === props.of?.number && !isLookedBack();
  const picture = asking.picture ?? (same ? photograph() : '');
  asking = null;
  if (error) { say(error); return; }
  try {
    await transact('readwrite', (shown, recipes) => {
      shown.put({ at: Date.now(), title, picture }, digest);
      recipes.put(recipe, digest);
    });
  } catch {
    say('This browser keeps nothing for this page. Save the picture instead: it opens again.');
    return;
  }
  names.set(number, digest);
  channel?.postMessage('');
  await load();
  marked();
  say(`Kept as a favourite in this browser: ${title}.`);
}

function marked() {
  const name = names.get(props.of?.number), there = all.some((one) => one.name === name);
  if (there) heart.dataset.name = name;
  else delete heart.dataset.name;
  heart.setAttribute('aria-pressed', there);
  heart.textContent = there ? '♥ Favourite' : '♡ Favourite';
}

// One string: Gradio takes a name that stands in quotes alone for an event of the component.
const [OF, SUGGESTED, KEPT] = 'of suggested kept'.split(' ');
watch(OF, () => { say(''); showRow(); marked(); wish(); });
watch(SUGGESTED, take);
watch(KEPT, keep);
channel?.addEventListener('message', () => load().then(marked).catch(() => {}));
setTimeout(() => load().catch(() => {}), 300);
