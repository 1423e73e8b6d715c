// Opens a saved picture or recipe: chosen with the button, or dropped anywhere on the page.

const input = element.querySelector('input');
let count = 0;

function send(file) {
  if (!file) return;
  const mine = ++count, name = file.name.slice(0, 200);
  const tell = (content) => { props.value = { count: mine, name, content }; trigger('open_work', {}); };
  const isModel = (props.models ?? []).some((suffix) => name.toLowerCase().endsWith(suffix));
  // Not read: the server says why in the line under the picture.
  if (isModel || file.size > props.most) { tell(''); return; }
  window.dragganFile(file).then((content) => { if (mine === count) tell(content); }, () => tell(''));
}

input.addEventListener('change', () => { send(input.files[0]); input.value = ''; });

// What takes files by itself keeps them.
const own = (event) => event.target.closest?.('.dg-check, .dg-photo, input[type=file]') && event.target !== input;
const files = (event) => [...event.dataTransfer?.types ?? []].includes('Files');
document.addEventListener('dragover', (event) => {
  if (!element.isConnected || !files(event) || own(event)) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = 'copy';
});
document.addEventListener('drop', (event) => {
  if (!element.isConnected || !files(event) || own(event)) return;
  event.preventDefault();
  send(event.dataTransfer.files[0]);
});
