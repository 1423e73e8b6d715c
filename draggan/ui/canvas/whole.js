// The whole photo with what has changed in it, over the page: the canvas has only the part that the model draws.

const wholeButton = element.querySelector('#dg-whole'), wholeSheet = element.querySelector('.dg-whole');

wholeButton.addEventListener('click', () => {
  if (props.busy) return;
  props.value = structuredClone(state);
  trigger('see_whole', {});
});
wholeSheet.addEventListener('click', (event) => { if (event.target === wholeSheet) wholeSheet.close(); });
const followPhoto = () => { wholeButton.hidden = !props.photo; };

function takeWhole() {
  if (!props.whole?.url) return;
  wholeSheet.querySelector('img').src = props.whole.url;
  if (!wholeSheet.open) wholeSheet.showModal();
}
