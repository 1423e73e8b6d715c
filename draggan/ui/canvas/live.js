// The tool Live: the picture is held and follows the pointer. See protocol.md, "A live drag".

const REST = 1000;       // ms without news after which a pointer at rest is reported only that often
let hold = null;         // the live drag: {key, start, at, end, stop, seen, handles, news, told, flying, timer}

// Tell the server where the pointer is and show the frame it answers with; then again. One call at a time.
async function steer() {
  const pull = hold, now = performance.now();
  if (!pull || pull.flying || props.held !== pull.key) return;
  clearTimeout(pull.timer);
  if (!pull.end && now - pull.news > REST && now - pull.told < REST) {
    pull.timer = setTimeout(steer, REST);
    return;
  }
  pull.flying = true;
  pull.told = now;
  let answer;
  try {
    const { key, at, end, stop, seen } = pull;
    answer = await server.steer({ key, at, end, stop, seen });
  } catch {
    answer = {};
    await new Promise((done) => { setTimeout(done, REST / 4); });
  }
  pull.flying = false;
  if (!answer || pull !== hold || props.held !== pull.key) return;
  if (answer.frame) {
    pull.seen = answer.count;
    pull.handles = answer.handles;
    pull.news = performance.now();
    show(answer.frame, answer.handles);
  }
  steer();
}

function takeHold(at) {
  const key = crypto.getRandomValues(new Uint32Array(4)).join('-');
  hold = { key, start: at, at, end: false, stop: false, seen: 0, told: 0, news: performance.now() };
  props.value = structuredClone({ ...state, pull: { key: hold.key, at } });
  trigger('pull', {});
}

function letGo(at) {
  if (!hold || hold.end) return;
  if (at) hold.at = at;
  hold.end = true;
  steer();
  draw();
}
