// The list of models: cards in groups, searched by what is typed. What the server sends is data. See component.py.

const q = (what) => element.querySelector(what);
const button = q('.dg-model-button'), shown = button.querySelector('span'), chips = q('.dg-recommended');
const dialog = q('.dg-picker'), field = q('input'), count = q('.dg-picker-count'), groups = q('.dg-picker-groups');
const looks = new Map();       // pictures of models that the canvas has shown, by name
// What models draw, by their group, for those that nobody has seen yet; in a square of 48.
const SIGNS = {
  faces: 'M24 5c-7.4 0-12 5.3-12 13 0 8.5 5.3 16 12 16s12-7.5 12-16c0-7.7-4.6-13-12-13z M19 16.5a2 2 0 1 0 0 4a2 2 0 1 0 0-4z M29 16.5a2 2 0 1 0 0 4a2 2 0 1 0 0-4z M18.5 25.5q5.5 3 11 0q-5.5 6.5-11 0z M7 46c.8-6.2 5.5-9.8 11-10.3 3.5 2.5 8.5 2.5 12 0 5.5.5 10.2 4.1 11 10.3z',
  people: 'M24 2a5 5 0 1 0 0 10a5 5 0 1 0 0-10z M17.5 14h13c2.5 0 4.5 2 4.5 4.5V30h-4V20h-1v26h-5V32h-2v14h-5V20h-1v10h-4V18.5c0-2.5 2-4.5 4.5-4.5z',
  animals: 'M9 6l9 6.5c3.9-1.2 8.1-1.2 12 0L39 6c1.8 5.5 1.7 10.8 0 16 .5 10-6 18-15 18S8.5 32 9 22c-1.7-5.2-1.8-10.5 0-16z M17 20a2.3 3 0 1 0 0 6a2.3 3 0 1 0 0-6z M31 20a2.3 3 0 1 0 0 6a2.3 3 0 1 0 0-6z M21 29.5h6l-3 3.5z',
  vehicles: 'M4 32v-7c0-2.3 1.6-4.2 3.8-4.7L13 19l5.2-6.8c.8-1 2-1.7 3.3-1.7h9.7c1.4 0 2.6.7 3.3 1.8L38.5 19c3.1.4 5.5 3.1 5.5 6.3V32c0 1.1-.9 2-2 2h-1.5a5.5 5.5 0 0 0-11 0h-11a5.5 5.5 0 0 0-11 0H6c-1.1 0-2-.9-2-2z M17.5 18.5H24V14h-2.5c-.4 0-.8.2-1 .5z M27 14v4.5h7.5L32 14.5c-.2-.3-.6-.5-1-.5z M13 30.5a3.5 3.5 0 1 0 0 7a3.5 3.5 0 1 0 0-7z M35 30.5a3.5 3.5 0 1 0 0 7a3.5 3.5 0 1 0 0-7z',
  other: 'M8 9h32c1.7 0 3 1.3 3 3v24c0 1.7-1.3 3-3 3H8c-1.7 0-3-1.3-3-3V12c0-1.7 1.3-3 3-3z M8.5 12.5v23h31v-23z M11 33l8.5-12 6.5 8 4-4.5L37 33z M31.5 16a3 3 0 1 0 0 6a3 3 0 1 0 0-6z',
};

const { busy, isLookedBack, thumbnail } = window.dragganCanvas;

function showChosen() {
  shown.textContent = button.title = props.title ?? '';
  button.setAttribute('aria-label', `Model: ${props.title ?? ''}. Choose another one`);
}

function showRecommended() {
  const there = props.recommended ?? [];
  chips.hidden = !there.length;
  chips.replaceChildren(chips.firstElementChild, ...there.map(({ name, title, short }) => {
    const chip = Object.assign(document.createElement('button'), { type: 'button', textContent: short });
    chip.title = `${title}: size, source and terms first, then the download`;
    chip.addEventListener('click', () => choose(name, title));
    return chip;
  }));
}

function choose(name, title) {
  if (busy()) return;
  dialog.close();
  props.title = title;
  props.value = name;
  showChosen();
  trigger('choose', {});
}

function text(tag, name, words) {
  return Object.assign(document.createElement(tag), { className: name, textContent: words });
}

function sign(group) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 48 48');
  svg.append(document.createElementNS('http://www.w3.org/2000/svg', 'path'));
  svg.firstChild.setAttribute('d', SIGNS[group] ?? SIGNS.other);
  return svg;
}

function card({ name, title, facts, picture, sign: group }) {
  const item = document.createElement('li'), act = document.createElement('button');
  const look = document.createElement('span');
  Object.assign(act, { type: 'button', className: 'dg-card' });
  act.dataset.name = name;
  if (name === props.value) act.setAttribute('aria-current', 'true');
  look.className = 'dg-card-picture';
  look.setAttribute('aria-hidden', 'true');
  const address = looks.get(name) || picture;
  look.append(address ? Object.assign(document.createElement('img'), { src: address, alt: '' }) : sign(group));
  const words = document.createElement('span');
  const said = name === props.shown ? ['On the canvas', ...facts] : facts;
  words.append(text('span', 'dg-card-title', title), ...said.map((fact) => text('span', 'dg-card-fact', fact)));
  act.append(look, words);
  act.addEventListener('click', () => choose(name, title));
  item.append(act);
  return item;
}

function showList() {
  const models = props.models ?? [], words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = models.filter((model) => {
    const all = [model.title, model.group, model.name, ...model.facts].join(' ').toLowerCase();
    return words.every((word) => all.includes(word));
  });
  const by = new Map();
  for (const model of found) by.set(model.group, [...(by.get(model.group) ?? []), model]);
  groups.replaceChildren(...[...by].map(([group, of]) => {
    const section = document.createElement('section'), list = document.createElement('ul');
    section.setAttribute('aria-label', group);
    list.append(...of.map(card));
    section.append(text('h3', '', group), list);
    return section;
  }));
  if (!models.length) count.textContent = 'Looking …';
  else if (!found.length) count.textContent = 'No model is called so. Your own files: “Open a model file” on the page.';
  else count.textContent = `${found.length} model${found.length === 1 ? '' : 's'}`;
}

// What the model on the canvas looks like: not one on offer, and not while another one or a frame of the film is shown.
function photograph() {
  if (!(document.querySelector('.dg-picture')?.width > 1) || !props.value || looks.has(props.value) || !props.models) return;
  if (props.value !== props.shown || busy() || isLookedBack()) return;
  if (props.models.find(({ name }) => name === props.value)?.picture) return;
  looks.set(props.value, thumbnail(112, 0.85));
}

button.addEventListener('click', () => {
  if (busy() || dialog.open) return;
  field.value = '';
  photograph();
  showList();
  dialog.showModal();
  if (matchMedia('(hover: hover)').matches) field.focus();
  trigger('list_models', {});
});
q('.dg-picker-close').addEventListener('click', () => dialog.close());
dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener('close', () => button.focus({ preventScroll: true }));
field.addEventListener('input', showList);

// Arrows go from card to card as they lie on the screen; Enter in the field takes the first one.
const cards = () => [...groups.querySelectorAll('.dg-card')];
dialog.addEventListener('keydown', (event) => {
  event.stopPropagation();     // the canvas has keys of its own
  const all = cards(), at = all.indexOf(document.activeElement), typing = document.activeElement === field;
  if (event.key === 'Enter' && typing) { event.preventDefault(); all[0]?.click(); return; }
  const way = { ArrowDown: [0, 1], ArrowUp: [0, -1], ArrowRight: [1, 0], ArrowLeft: [-1, 0] }[event.key];
  if (!way || (typing && event.key !== 'ArrowDown') || (!typing && at < 0)) return;
  event.preventDefault();
  if (typing) { all[0]?.focus(); return; }
  const next = way[0] ? all[at + way[0]] : beyond(all, at, way[1]);
  if (next) next.focus();
  else if (way[1] < 0) field.focus();
});
function beyond(all, at, down) {
  const middle = (box) => [box.left + box.width / 2, box.top + box.height / 2];
  const [x, y] = middle(all[at].getBoundingClientRect());
  const ahead = all.map((one) => [one, middle(one.getBoundingClientRect())])
    .filter(([, [, cy]]) => down * (cy - y) > 8);
  const nearest = Math.min(...ahead.map(([, [, cy]]) => Math.abs(cy - y)));
  const row = ahead.filter(([, [, cy]]) => Math.abs(cy - y) < nearest + 8);
  return row.sort(([, [a]], [, [b]]) => Math.abs(a - x) - Math.abs(b - x))[0]?.[0];
}

// One string: Gradio takes a name that stands in quotes alone for an event of the component.
const [TITLE, MODELS, RECOMMENDED] = 'title models recommended'.split(' ');
watch(TITLE, showChosen);
watch('value', showChosen);
watch(RECOMMENDED, showRecommended);
watch(MODELS, () => {
  if (!dialog.open) return;
  const at = document.activeElement?.dataset?.name;
  photograph();
  showList();
  if (at) cards().find((one) => one.dataset.name === at)?.focus();
});
showChosen();
showRecommended();
