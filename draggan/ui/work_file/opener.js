// Opens a saved picture or recipe: chosen with the button, or dropped anywhere on the page.

const input = element.querySelector('input');
let count = 0, sent = null;

function send(file) {
  if (!file) return;
  sent = file;
  const mine = ++count, name = file.name.slice(0, 200);
  const tell = (content) => { props.value = { count: mine, name, content }; trigger('open_work', {}); };
  const isModel = (props.models ?? []).some((suffix) => name.toLowerCase().endsWith(suffix));
  // Not read: the server says why in the line under the picture.
  if (isModel || file.size > props.most) { tell(''); return; }
  window.dragganFile(file).then((content) => { if (mine === count) tell(content); }, () => tell(''));
}

// A photo that was not saved here: the place for photos opens and takes it.
function toPhotos() {
  if (props.photo !== count || !sent) return;
  const box = document.querySelector('#dg-photo-box'), began = performance.now(), files = new DataTransfer();
  if (box && !box.querySelector('.dg-photo')?.checkVisibility()) box.querySelector('button')?.click();
  files.items.add(sent);
  sent = null;
  const hand = () => {
    const at = box?.querySelector('.dg-photo input');
    if (!at && performance.now() - began < 3000) { setTimeout(hand, 50); return; }
    box?.scrollIntoView({ block: 'nearest' });
    if (!at) return;
    at.files = files.files;
    at.dispatchEvent(new Event('change'));
  };
  hand();
}
const [PHOTO] = 'photo'.split(' ');    // not in quotes alone: Gradio would take it for an event
watch(PHOTO, toPhotos);

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
