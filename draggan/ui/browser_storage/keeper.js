// Asks the server for what is new of the work, whenever there is something, and keeps it: see protocol.md.

const storage = window.dragganStorage;
const line = element.querySelector('.dg-kept'), words = line.querySelector('span');
const buttons = [...line.querySelectorAll('button')];
const PAUSE = 200;          // ms in which several changes become one
const PATIENCE = 3000;      // ms in which an answer comes, if it comes
const LOOK = 2000;          // ms between two looks whether the server is the one that it was
const LOOK_SOON = 250;      // ms while none answers: it may be back at any moment
let asked = 0, askedAt = 0, written = 0, flying = false, failed = !storage, leaving = false, timer = null;
let other = null;           // the work of a closed tab that is on offer

// What it says, and which of the buttons it has, with what each does.
function say(text, actions = {}) {
  words.textContent = text;
  line.hidden = !text;
  for (const button of buttons) {
    button.hidden = !(button.dataset.name in actions);
    button.onclick = actions[button.dataset.name] ?? null;
  }
}
const NOTHING_KEPT = 'This browser keeps nothing for this page: reloading or closing it loses your work.';

function ask() {
  clearTimeout(timer);
  timer = setTimeout(() => {
    const newest = props.stamp?.count ?? 0;
    if (failed || leaving || newest <= written) return;
    if (flying && performance.now() - askedAt < PATIENCE) { ask(); return; }
    secure();
    flying = true;
    asked = newest;
    askedAt = performance.now();
    props.value = { count: asked, there: storage.names() };
    trigger('keep', {});
  }, PAUSE);
}

async function take() {
  const answer = props.answer;
  if (!answer || answer.count !== asked || leaving) return;
  flying = false;
  try {
    if (answer.names) await storage.write(answer.outline, answer.pieces, answer.names);
    written = Math.max(written, answer.count);
  } catch {
    failed = true;
    say(NOTHING_KEPT);
  }
  if (!failed) ask();
}

function wait() {
  const waiting = storage.waitingFor();
  if (!waiting) return;
  const again = waiting.again && { Again: () => { leaving = true; storage.resume(waiting.id); } };
  say(waiting.text, { ...again, Discard: async () => { say(''); await storage.discardWaiting(); } });
}

// Something is done here though the page was never told of its work, as that answer has got lost: nothing may take the
// work's place.
function secure() {
  if (props.back || !storage.isUnanswered()) return;
  storage.setAside({ text: 'Your last work could not be shown this time, and stays kept.', again: true });
  wait();
}

function setAside() {
  if (!storage || !props.aside) return;
  storage.setAside(props.aside.waiting);
  wait();
}

// Another model is here, or the tuned weights of photos: perhaps what kept work has waited for.
function arrived() {
  const waiting = storage?.waitingFor(), { name, title, sha256, photos, agreed } = props.model ?? {};
  if (!waiting || !props.model) return;
  if (waiting.photo) {
    // Its tuned weights are here again; or it has only waited until somebody agrees, whose token is kept by then.
    if (photos?.includes(waiting.photo)) { leaving = true; storage.resume(waiting.id); }
    else if (agreed && !waiting.agreed) { leaving = true; setTimeout(() => storage.resume(waiting.id), 300); }
    return;
  }
  if (!(waiting.sha256 && sha256 ? waiting.sha256 === sha256 : waiting.name && waiting.name === name)) return;
  leaving = true;
  storage.resume(waiting.id, [title, name]);
}

// The server knows nothing of this work any more; this browser does.
function expired() {
  if (!storage?.names().length) return;
  leaving = true;
  location.reload();
}

// Another server answers here: the one that knew this tab has ended. Nobody has to click before the page notices.
const APP = `${location.origin}${location.pathname.replace(/\/+$/, '')}/gradio_api/app_id`;
let known = null, looking = false, next = null;
async function look() {
  clearTimeout(next);
  if (looking || leaving) return;
  looking = true;
  const there = document.hidden || await isKnown().catch(() => false);
  looking = false;
  sayWhetherIsThere(there);
  next = setTimeout(look, there ? LOOK : LOOK_SOON);
}
// Said where one looks, and taken back.
let away = 0;                  // how often it has not answered, one time after the other
function sayWhetherIsThere(there) {
  const wasAway = away > 1;
  away = there ? 0 : away + 1;
  if (wasAway === away > 1) return;
  const detail = there ? null : { text: AWAY, kind: 'bad' };
  document.querySelector('.dg-status')?.dispatchEvent(new CustomEvent('draggan-say', { detail }));
}
const AWAY = 'The server does not answer. What you have done is kept in this browser, and comes back with it.';
async function isKnown() {
  const answer = await fetch(APP, { cache: 'no-store' });
  if (!answer.ok) return false;
  const { app_id: now } = await answer.json();
  if (known !== null && now !== undefined && now !== known) expired();
  known ??= now ?? null;
  return true;
}
document.addEventListener('visibilitychange', look);
look();

async function offer() {
  const works = await storage.tidy();
  if (!works.length || storage.names().length || !line.hidden) return;
  const [work, at] = works[0];
  const when = new Date(at).toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' });
  say(`Work of a closed tab is kept in this browser (${when}).`, {
    Continue: () => { leaving = true; storage.resume(work); },
    Discard: async () => { say(''); await storage.forget(work); },
  });
}

// One string each: Gradio takes a name that stands in quotes alone for an event of the component.
const [STAMP, ANSWER, ASIDE, MODEL, EXPIRED] = 'stamp answer aside model expired'.split(' ');
watch(STAMP, ask);
watch(ANSWER, take);
watch(ASIDE, setAside);
watch(MODEL, arrived);
watch(EXPIRED, expired);

document.addEventListener('draggan-drawn', ({ detail }) => {
  if (failed || leaving) return;
  secure();
  storage.draft(detail);
});

// Only where something would be lost: nothing is kept here, or the newest step is still on its way. If no answer has
// come for long, waiting for it is no use.
window.addEventListener('beforeunload', (event) => {
  const onItsWay = (props.stamp?.count ?? 0) > written && (!flying || performance.now() - askedAt < PATIENCE);
  if (leaving || !props.stamp?.worth || !(failed || onItsWay)) return;
  event.preventDefault();
  event.returnValue = true;
});

if (!storage || storage.isBroken()) {
  failed = true;
  say(NOTHING_KEPT);
} else {
  wait();
  setTimeout(() => offer().catch(() => {}), 1500);
}
