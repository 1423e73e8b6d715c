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
  const reader = new FileReader();
  reader.onerror = () => say(`${file.name} cannot be read by this browser.`);
  reader.onload = () => {
    if (mine !== count) return;
    props.value = { count: mine, name: file.name.slice(0, 200), content: reader.result.slice(reader.result.indexOf(',') + 1) };
    trigger('check', {});
  };
  reader.readAsDataURL(file);
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

input.addEventListener('change', () => { send(input.files[0]); input.value = ''; });
for (const name of ['dragenter', 'dragover']) {
  zone.addEventListener(name, (event) => { event.preventDefault(); zone.dataset.over = ''; });
}
for (const name of ['dragleave', 'drop']) zone.addEventListener(name, () => delete zone.dataset.over);
zone.addEventListener('drop', (event) => { event.preventDefault(); send(event.dataTransfer.files[0]); });
watch('report', show);
