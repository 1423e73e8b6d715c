// The settings of a drag. Values go to the server in its units; lengths are shown in pixels of the picture. What
// crosses: component.py.

const all = element.querySelector('.dg-settings'), front = element.querySelector('.dg-settings-front');
const rest = element.querySelector('.dg-settings-rest'), again = element.querySelector('.dg-reset-all');
const made = new Map();        // by name: {row, show, reset}

const far = (row) => (row.pixels ? (props.longer || 512) / 512 : 1);
const figure = (v) => String(Number(v.toPrecision(4)));
// As much of a value as counts on this picture.
const onPicture = (row, v) => Math.max(v * far(row), row.least);
const make = (tag, look = {}) => Object.assign(document.createElement(tag), look);

function change(name, value) {
  if (Object.is(props.value?.[name], value)) return;
  props.value = { ...props.value, [name]: value };
  show();
  trigger('settings', {});
}

function choice(row) {
  const box = make('div', { className: 'dg-setting-choice' });
  const options = row.choices.map(([value, title]) => {
    const label = make('label'), input = make('input', { type: 'radio', name: `dg-choice-${row.name}`, value });
    input.addEventListener('change', () => change(row.name, value));
    label.append(input, title);
    box.append(label);
    return input;
  });
  box.setAttribute('role', 'radiogroup');
  box.setAttribute('aria-label', row.title);
  return { box, show: (value) => options.forEach((input) => { input.checked = input.value === value; }) };
}

function tick(row) {
  const [on, off] = row.choices.map(([value]) => value), box = make('input', { type: 'checkbox' });
  box.addEventListener('change', () => change(row.name, box.checked ? on : off));
  return { box, show: (value) => { box.checked = value === on; } };
}

function between(row) {
  const box = make('div', { className: 'dg-setting-range' });
  const input = make('input', { type: 'range', min: row.low, max: row.high, step: 0.05 }), output = make('output');
  const [left, right] = row.ends.map((textContent) => make('span', { textContent }));
  input.addEventListener('input', () => { output.textContent = figure(Number(input.value)); });
  input.addEventListener('change', () => change(row.name, Number(input.value)));
  box.append(left, input, right, output);
  return { box, field: input, show: (value) => { input.value = value; output.textContent = figure(value); } };
}

function number(row) {
  const box = make('div', { className: 'dg-setting-number' });
  const input = make('input', { type: 'number', step: 'any' }), unit = make('span', { textContent: row.unit });
  input.addEventListener('change', () => {
    const typed = input.value === '' ? null : Number(input.value);
    change(row.name, typed === null ? null : Number((typed / far(row)).toPrecision(12)));
  });
  // Enter is a change, and nothing else on the page.
  input.addEventListener('keydown', (event) => { if (event.key === 'Enter') { event.preventDefault(); input.blur(); } });
  box.append(input, unit);
  return { box, field: input, show: (value) => { input.value = value === null ? '' : figure(onPicture(row, value)); } };
}

function makeRow(row) {
  const line = make('div', { id: `dg-${row.name.replaceAll('_', '-')}`, className: 'dg-setting' });
  const head = make('div', { className: 'dg-setting-head' }), help = make('p', { className: 'dg-setting-help' });
  const { box, field = box, show } = { choice, tick, between, number }[row.kind](row);
  const title = make(row.kind === 'choice' ? 'span' : 'label', { textContent: row.title, className: 'dg-setting-title' });
  const reset = make('button', { type: 'button', className: 'dg-setting-reset', textContent: '↺' });
  help.id = `${line.id}-help`;
  field.setAttribute('aria-describedby', help.id);
  if (row.kind !== 'choice') {
    field.id = `${line.id}-field`;
    title.htmlFor = field.id;
  }
  reset.addEventListener('click', () => change(row.name, props.suited[row.name]));
  head.append(title, reset);
  if (row.kind === 'tick') { head.prepend(box); line.append(head, help); } else line.append(head, box, help);
  (row.front ? front : rest).append(line);
  made.set(row.name, { row, line, help, reset, show, field });
}

function said(row) {
  const [low, high] = [row.low, row.high].map((v) => (v === null ? null : figure(onPicture(row, v))));
  const range = row.kind !== 'number' || low === null ? '' : high === null ? ` From ${low} on.` : ` ${low} to ${high}.`;
  const only = row.only && props.value?.solver !== row.only ? ` Only with ${row.onlyTitle}.` : '';
  return `${row.help}${range}${only}`;
}

function show() {
  for (const { row, help, reset, show: put, field } of made.values()) {
    const value = props.value?.[row.name] ?? null, suits = props.suited?.[row.name];
    if (document.activeElement !== field || row.kind !== 'number') put(value);
    help.textContent = said(row);
    const shown = typeof suits === 'number' ? figure(onPicture(row, suits)) : row.choices.find(([v]) => v === suits)?.[1] ?? '';
    reset.disabled = value === suits;
    reset.title = `Back to ${shown}`;
    reset.setAttribute('aria-label', `${row.title}: back to ${shown}`);
  }
  again.disabled = [...made.keys()].every((name) => props.value?.[name] === props.suited?.[name]);
}

again.addEventListener('click', () => trigger('reset_settings', {}));

// While a drag runs nothing can be changed.
function follow() {
  const stage = document.querySelector('.dg-stage');
  if (!stage) { setTimeout(follow, 200); return; }
  const look = () => { all.disabled = stage.classList.contains('dg-busy'); };
  new MutationObserver(look).observe(stage, { attributes: true, attributeFilter: ['class'] });
  look();
}

const [SUITED, LONGER] = 'suited longer'.split(' ');
props.rows.forEach(makeRow);
watch('value', () => {
  // What was wrong is replaced also where it was typed.
  for (const { row, show: put } of made.values()) if (row.kind === 'number') put(props.value?.[row.name] ?? null);
  show();
});
watch(SUITED, show);
watch(LONGER, show);
show();
follow();
