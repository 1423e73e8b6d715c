// The list of models: cards in groups, searched by what is typed. What the server sends is data. See component.py.

const q = (what) => element.querySelector(what);
const button = q('.dg-model-button'), shown = button.querySelector('span'), chips = q('.dg-recommended');
const dialog = q('.dg-picker'), field = q('input'), count = q('.dg-picker-count'), groups = q('.dg-picker-groups');
const looks = new Map();       // pictures of models that the canvas has shown, by name

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

function card({ name, title, facts, picture }) {
  const item = document.createElement('li'), act = document.createElement('button');
  const look = document.createElement('span');
  Object.assign(act, { type: 'button', className: 'dg-card' });
  act.dataset.name = name;
  if (name === props.value) act.setAttribute('aria-current', 'true');
  look.className = 'dg-card-picture';
  look.setAttribute('aria-hidden', 'true');
  const address = looks.get(name) || picture;
  if (address) look.append(Object.assign(document.createElement('img'), { src: address, alt: '' }));
  else look.textContent = title.slice(0, 1);
  const words = document.createElement('span');
  words.append(text('span', 'dg-card-title', title), ...facts.map((fact) => text('span', 'dg-card-fact', fact)));
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
