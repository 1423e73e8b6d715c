// What the server sends.

function take() {
  state = { ...blank(), ...structuredClone(props.value || {}) };
  delete state.pull;
  press = null;
  put = false;
  if (selected && selected.pair >= state.points.length) selected = null;
  restoreMask();
  changed();
  draw();
  comeIntoSight();
}

// One string, not four: Gradio takes a name that stands in quotes alone for an event of the component.
const [SIZE, FRAME, LIVE, BUSY, HELD, FILM, SEEN, STORY, PHOTO, WHOLE] = 'size frame live busy held film seen story photo whole'.split(' ');
watch(SIZE, resize);
watch(FRAME, () => { resize(); if (peek === null) showFrame(); });
watch(FILM, takeFilm);
watch(SEEN, takeSeen);
watch(STORY, takeStory);
watch(PHOTO, followPhoto);
watch(WHOLE, takeWhole);
watch('value', take);
watch(LIVE, draw);
watch(HELD, () => {
  // Pressed again before the server had answered: nobody holds that pull any more.
  if (props.held && hold?.key !== props.held) server.steer({ key: props.held, stop: true }).catch(() => {});
  steer();
});
// An example or a picture of the history was chosen far below the picture, as on a phone: it comes back into sight.
let chosen = -Infinity;        // when
document.addEventListener('click', ({ target }) => {
  if (target.closest?.('#dg-presets button, .dg-story button, .dg-row-of-pictures button:not(.dg-away)')) chosen = performance.now();
}, true);
function comeIntoSight() {
  if (performance.now() - chosen > 10000) return;
  chosen = -Infinity;
  const { top, bottom, height } = stage.getBoundingClientRect();
  if (Math.min(bottom, innerHeight) - Math.max(top, 0) > 0.7 * Math.min(height, innerHeight)) return;
  const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
  document.querySelector('#dg-head')?.scrollIntoView({ block: 'start', behavior: still ? 'auto' : 'smooth' });
}

// A button that is switched off under one's fingers takes the focus along: while something runs it is on Stop, and then
// on the button again, or on the picture where that stays off.
const LONG = '#dg-start, #dg-film';
let pressed = '';              // what has begun it
document.addEventListener('click', ({ target }) => {
  const button = target.closest?.(LONG);
  if (button) pressed = `#${button.id}`;
}, true);
function keepFocus() {
  if (!pressed) return;
  const next = props.busy ? '#dg-stop' : pressed, began = performance.now();
  if (!props.busy) pressed = '';
  let mayBeOn = `${LONG}, #dg-stop`;
  const go = () => {
    const button = document.querySelector(next), at = document.activeElement;
    if (at && at !== document.body && !at.matches(mayBeOn)) return;
    if (button && !button.disabled) { button.focus({ preventScroll: true }); mayBeOn = next; }
    // What is said of the button comes a moment later than that the run has ended.
    if (performance.now() - began < 2000) setTimeout(go, 50);
    else if (!props.busy && document.activeElement === document.body) ink.focus({ preventScroll: true });
  };
  go();
}

watch(BUSY, () => {
  press = null;
  if (props.busy) peekAt(null);
  // In Live, keys pull by it.
  if (props.busy && !hold) { left = cross; cross = nudgedAt = null; }
  if (!props.busy) { hold = null; delete stage.dataset.taut; document.querySelector('#dg-stop')?.toggleAttribute('disabled', true); }
  steer();
  stage.classList.toggle('dg-busy', Boolean(props.busy));
  for (const button of tools) button.disabled = Boolean(props.busy);
  changed();
  showStory();
  keepFocus();
  const page = element.closest('#dg-page');
  if (page) page.dataset.pulling = Boolean(props.busy && props.held);
  draw();
});
new ResizeObserver(() => look(view.zoom)).observe(stage);
resize();
choose('points');
showFrame();
followPhoto();
take();
