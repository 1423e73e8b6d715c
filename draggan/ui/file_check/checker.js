// Lets a person choose or drop a file, sends it as it is, and shows what was found. What comes back is data.

const zone = element.querySelector('.dg-check-zone'), input = element.querySelector('input');
const said = element.querySelector('[role=status]'), list = element.querySelector('dl');
let count = 0;

function say(text) { said.textContent = text; said.hidden = !text; }

async function send(file) {
  list.replaceChildren();
  if (!file) return;
  if (file.size > props.most) {
    say(`${file.name} is larger than ${Math.floor(props.most / 1e6)} MB; draggan verify checks such files on your machine.`);
    return;
  }
  say(`Looking at ${file.name} …`);
  const mine = ++count;
  try {
    const content = await window.dragganFile(file);
    if (mine !== count) return;
    props.value = { count: mine, name: file.name.slice(0, 200), content };
    trigger('check', {});
  } catch { say(`${file.name} cannot be read by this browser.`); }
}

function show() {
  const report = props.report;
  if (!report || report.count !== count) return;
  props.value = null;
  say(report.error ?? report.name);
  list.replaceChildren();
  let group = null, last = null;
  for (const { layer, text, mood } of report.findings ?? []) {
    if (layer !== last) {
      group = document.createElement('div');
      const term = document.createElement('dt');
      term.textContent = last = layer;
      group.append(term);
      list.append(group);
    }
    const sentence = document.createElement('dd');
    sentence.textContent = text;
    sentence.dataset.mood = mood;
    group.append(sentence);
  }
}

window.dragganDrop(zone, input, send);
watch('report', show);
