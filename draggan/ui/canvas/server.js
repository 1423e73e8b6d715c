// What the server sends.

function take() {
  state = { ...blank(), ...structuredClone(props.value || {}) };
  delete state.pull;
  press = null;
  const url = state.mask;
  if (!url) {
    onMask.clearRect(0, 0, mask.width, mask.height);
    painted = false;
    showBrush();
  } else {
    const image = new Image();
    image.onload = () => {
      if (state.mask !== url) return;
      onMask.globalCompositeOperation = 'copy';
      onMask.drawImage(image, 0, 0);
      onMask.globalCompositeOperation = 'source-over';
      painted = true;
      showBrush();
      draw();
    };
    image.src = url;
  }
  draw();
}

// One string, not four: Gradio takes a name that stands in quotes alone for an event of the component.
const [SIZE, FRAME, LIVE, BUSY, HELD] = 'size frame live busy held'.split(' ');
watch(SIZE, resize);
const showFrame = () => { if (props.frame) show(props.frame, props.live); };
watch(FRAME, () => { resize(); showFrame(); });
watch('value', take);
watch(LIVE, draw);
watch(HELD, () => {
  // Pressed again before the server had answered: nobody holds that pull any more.
  if (props.held && hold?.key !== props.held) server.steer({ key: props.held, stop: true }).catch(() => {});
  steer();
});
watch(BUSY, () => {
  press = null;
  if (!props.busy) { hold = null; delete stage.dataset.taut; }
  steer();
  stage.classList.toggle('dg-busy', Boolean(props.busy));
  for (const button of tools) button.disabled = Boolean(props.busy);
  const page = element.closest('#dg-page');
  if (page) page.dataset.pulling = Boolean(props.busy && props.held);
  showBrush();
  draw();
});
new ResizeObserver(draw).observe(stage);
resize();
choose('points');
showFrame();
take();
