// What this browser keeps of the work in its tabs: see protocol.md. Gradio calls read() before anything is shown.

window.dragganStorage = (() => {
  const NAME = `draggan ${location.pathname}`, TAB = 'draggan-tab', WAITING = 'draggan-waiting', OPENED = 'draggan-opened';
  const AGREED = 'draggan-consent-photo';       // what consent_box.py keeps there
  const MOST = 8, OLDEST = 30 * 24 * 3600e3;    // works kept, and for how many ms
  const REPLY = 120;                            // ms that other tabs have to say that they are there
  let id = '', source = '', names = new Set(), broken = false, unanswered = false, queue = Promise.resolve();

  const random = () => [...crypto.getRandomValues(new Uint32Array(4))].map((n) => n.toString(36)).join('-');
  const { open, settled, transact: atOnce } = window.dragganDatabase(NAME, ['works', 'pieces']);
  const ofWork = (work) => IDBKeyRange.bound([work], [work, []]);

  // One after the other, and each as a whole or not at all.
  function transact(mode, act) {
    const turn = queue.then(() => atOnce(mode, act));
    queue = turn.catch(() => {});
    return turn;
  }

  // Tabs tell each other which work is theirs: a duplicated tab brings the name of its original's along.
  const channel = 'BroadcastChannel' in window ? new BroadcastChannel(NAME) : null;
  let heard = new Set();
  channel?.addEventListener('message', ({ data }) => {
    if (data.ask && id) channel.postMessage({ here: id });
    if (data.here) heard.add(data.here);
  });
  async function inOtherTabs() {
    if (!channel) return new Set();
    heard = new Set();
    channel.postMessage({ ask: true });
    await new Promise((good) => { setTimeout(good, REPLY); });
    return heard;
  }

  // The work of this tab, as the server takes it; null: there is none.
  async function read() {
    try {
      source = sessionStorage.getItem(TAB) || '';
      if (source && !(await inOtherTabs()).has(source)) id = source;
      id ||= random();
      sessionStorage.setItem(TAB, id);
      if (!source) { await open(); return null; }
      const [work, keys, texts] = await transact('readonly', (works, pieces) => Promise.all([
        settled(works.get(source)), settled(pieces.getAllKeys(ofWork(source))), settled(pieces.getAll(ofWork(source))),
      ]));
      if (!work?.outline) return null;
      unanswered = id === source;
      if (unanswered) names = new Set(keys.map(([, name]) => name));
      const all = keys.map(([, name], i) => `${JSON.stringify(name)}:${texts[i]}`).join(',');
      const opened = JSON.parse(sessionStorage.getItem(OPENED) || 'null');
      sessionStorage.removeItem(OPENED);
      const agreed = sessionStorage.getItem(AGREED);
      return { text: `{"outline":${work.outline},"pieces":{${all}}}`, draft: work.draft ?? null, opened, agreed };
    } catch {
      broken = true;
      return null;
    }
  }

  // The newest state of this tab's work: pieces that were not there yet, and the names of all; outline null: none.
  async function write(outline, pieces, all) {
    const now = new Set(all), mine = id;
    const put = () => transact('readwrite', async (works, store) => {
      for (const [name, text] of Object.entries(pieces)) store.put(text, [mine, name]);
      for (const name of names) if (!now.has(name)) store.delete([mine, name]);
      const before = await settled(works.get(mine));
      if (outline === null) works.delete(mine);
      else works.put({ outline, at: Date.now(), draft: before?.draft ?? null }, mine);
    });
    await put().catch(async (error) => {
      if (error?.name !== 'QuotaExceededError') throw error;    // room is made for no other reason
      await tidy(0);
      await put();
    });
    if (mine === id) names = now;
  }

  // What was drawn on the canvas, at once: it may not have come to the server.
  const draft = (value) => transact('readwrite', async (works) => {
    const work = await settled(works.get(id));
    works.put({ outline: null, at: Date.now(), ...work, draft: value }, id);
  }).catch(() => {});

  const forget = (work) => transact('readwrite', (works, pieces) => {
    works.delete(work);
    pieces.delete(ofWork(work));
  });

  // Works of tabs that are closed, the newest first: [name, when]. All but the first few, and old ones, are deleted.
  async function tidy(most = MOST) {
    const others = await inOtherTabs(), waiting = waitingFor()?.id;
    const [keys, works] = await transact('readonly', (store) =>
      Promise.all([settled(store.getAllKeys()), settled(store.getAll())]));
    const closed = keys.map((work, i) => [work, works[i]])
      .filter(([work]) => work !== id && work !== waiting && !others.has(work)).sort((a, b) => b[1].at - a[1].at);
    const kept = closed.filter(([, { at, outline }], i) => outline && i < most && Date.now() - at < OLDEST);
    for (const entry of closed) if (!kept.includes(entry)) await forget(entry[0]);
    return kept.filter(([, work]) => !work.refused).map(([work, { at }]) => [work, at]);
  }

  // The work that was read cannot be shown; this tab begins another one. Refused ones are not offered again.
  function setAside(waiting) {
    unanswered = false;
    id = random();
    names = new Set();
    sessionStorage.setItem(TAB, id);
    if (waiting) sessionStorage.setItem(WAITING, JSON.stringify({ ...waiting, id: source }));
    else transact('readwrite', async (works) => {
      works.put({ ...await settled(works.get(source)), refused: true }, source);
    }).catch(() => {});
  }
  function waitingFor() {
    try { return JSON.parse(sessionStorage.getItem(WAITING) || 'null'); } catch { return null; }
  }
  function discardWaiting() {
    const waiting = waitingFor();
    sessionStorage.removeItem(WAITING);
    return waiting ? forget(waiting.id) : null;
  }

  // Go on with another work in this tab; opened: title and name of its model, if it has another name by now.
  function resume(work, opened = null) {
    if (waitingFor()?.id === work) sessionStorage.removeItem(WAITING);
    sessionStorage.setItem(TAB, work);
    if (opened) sessionStorage.setItem(OPENED, JSON.stringify(opened));
    location.reload();
  }

  return {
    read, write, draft, forget, tidy, setAside, waitingFor, discardWaiting, resume,
    names: () => [...names],
    source: () => source,
    isBroken: () => broken,
    isUnanswered: () => unanswered,
  };
})();
