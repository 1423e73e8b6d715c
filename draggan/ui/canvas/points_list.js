// The list of points beside the picture: each with what switches it on and off, its number, where it is and where it is to
// go, and what removes it.
// It stands in another column of the page, in the element of the class dg-points.

const NAMES = ['Handle x', 'Handle y', 'Target x', 'Target y'];
const rows = [];

function makeRow(pair) {
  const row = document.createElement('li'), choice = document.createElement('button');
  Object.assign(choice, { type: 'button', className: 'dg-number', textContent: pair + 1, title: `Select point ${pair + 1}` });
  choice.addEventListener('click', () => select(pair, selected?.pair === pair && selected.end === 'handle' ? 'target' : 'handle'));
  const on = document.createElement('input');
  Object.assign(on, { type: 'checkbox', className: 'dg-on', title: 'Off: it stays here, and no drag moves it (O)' });
  on.setAttribute('aria-label', `Point ${pair + 1} takes part`);
  on.addEventListener('change', () => switchPoint(pair));
  const fields = NAMES.map((name, k) => {
    const field = document.createElement('input');
    Object.assign(field, { type: 'number', step: 'any', title: name });
    field.setAttribute('aria-label', `Point ${pair + 1}: ${name}`);
    field.addEventListener('focus', () => select(pair, k < 2 ? 'handle' : 'target'));
    field.addEventListener('change', () => {
      const v = Number(field.value), most = size[k % 2] - 1;
      if (field.value !== '' && Number.isFinite(v) && state.points[pair] && !props.busy) {
        state.points[pair][k] = Math.min(Math.max(v, 0), most);
        commit();
      }
      field.value = figure(state.points[pair]?.[k] ?? 0);
    });
    return field;
  });
  const arrow = document.createElement('span'), away = document.createElement('button');
  Object.assign(arrow, { textContent: '→', className: 'dg-to' });
  arrow.setAttribute('aria-hidden', 'true');
  Object.assign(away, { type: 'button', className: 'dg-away', textContent: '×', title: `Delete point ${pair + 1}` });
  away.setAttribute('aria-label', `Delete point ${pair + 1}`);
  away.addEventListener('click', () => removePoint(pair));
  row.append(on, choice, ...fields.slice(0, 2), arrow, ...fields.slice(2), away);
  return { row, on, choice, fields, away, arrow };
}

const figure = (v) => String(Math.round(10 * v) / 10);

function showPoints() {
  const box = document.querySelector('.dg-points'), list = box?.querySelector('ol');
  if (!list) return;
  while (rows.length < state.points.length) rows.push(makeRow(rows.length));
  state.points.forEach((point, pair) => {
    const { row, on, choice, fields, away, arrow } = rows[pair];
    if (row.parentElement !== list) list.append(row);
    fields.forEach((field, k) => {
      field.disabled = Boolean(props.busy);
      if (document.activeElement !== field) field.value = figure(point[k]);
    });
    arrow.textContent = isHeld(point) ? '=' : '→';
    arrow.title = isHeld(point) ? 'Held where it is' : '';
    on.checked = !isOff(pair);
    on.disabled = away.disabled = choice.disabled = Boolean(props.busy);
    row.toggleAttribute('data-off', isOff(pair));
    row.toggleAttribute('data-selected', selected?.pair === pair);
  });
  rows.slice(state.points.length).forEach(({ row }) => row.remove());
  box.toggleAttribute('data-none', !state.points.length);    // as high as with one: the first moves nothing
}
