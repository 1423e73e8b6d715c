// What several components of the page need; in the head of the page, so that it is there before them.

// What they ask of the canvas.
window.dragganCanvas = {
  // A drag runs.
  busy: () => Boolean(document.querySelector('.dg-stage.dg-busy')),
  // A frame of the film is shown in place of the picture of now.
  isLookedBack: () => Boolean(document.querySelector('.dg-stage')?.dataset.peek),
  // What it shows, as a JPEG data URL, with so many pixels on its longer side.
  thumbnail(most, quality) {
    const picture = document.querySelector('.dg-picture'), small = document.createElement('canvas');
    const far = Math.min(1, most / Math.max(picture.width, picture.height));
    [small.width, small.height] = [picture.width, picture.height].map((n) => Math.max(1, Math.round(n * far)));
    small.getContext('2d').drawImage(picture, 0, 0, small.width, small.height);
    return small.toDataURL('image/jpeg', quality);
  },
};

// What the picture is worked on with: "mouse", "finger" or "keys". Sentences are written for a mouse; words() says them
// for the others. The document hears of a change: "draggan-hand".
window.dragganHand = (() => {
  let hand = matchMedia('(hover: none) and (pointer: coarse)').matches ? 'finger' : 'mouse';
  const KEYS = [
    ['Click a point', 'Move the cross with the arrow keys and press Enter at a point'],
    ['To hold it in place, click it again', 'To hold it in place, press Enter there again'],
    ['Hold the picture and drag: it follows the pointer', 'Enter takes hold of the picture, the arrow keys drag it, Enter lets go'],
    ['Hold a point and drag it', 'Take hold of a point with Enter and drag it with the arrow keys'],
    ['Or choose Live and drag', 'Or choose Live (2)'],
    ['Paint what may change; the rest', 'Paint what may change: Enter begins and ends a stroke, the arrow keys move the brush. The rest'],
    ['a click on the picture comes back', 'Esc comes back'],
    ['the wheel zooms in', '+ zooms in'],
  ];
  const change = (next) => {
    if (next === hand) return;
    hand = next;
    document.dispatchEvent(new CustomEvent('draggan-hand'));
  };
  document.addEventListener('pointerdown', ({ pointerType }) => change(pointerType === 'touch' ? 'finger' : 'mouse'), true);
  document.addEventListener('keydown', ({ target, key }) => {
    if (target.matches?.('.dg-ink') && /^(Arrow|Enter)/.test(key)) change('keys');
  }, true);
  const words = (text) => {
    if (hand === 'finger') {
      return text.replace(/\b([Cc])lick(ed)?\b/g, (_, c, ed) => `${c === 'C' ? 'T' : 't'}ap${ed ? 'ped' : ''}`).replace('the pointer', 'your finger')
        .replace('the wheel zooms in', 'two fingers zoom in');
    }
    if (hand === 'keys') {
      const said = KEYS.reduce((before, [mouse, keys]) => before.replace(mouse, keys), text);
      return said.replace(/\b([Cc])lick\b/g, (_, c) => `${c === 'C' ? 'P' : 'p'}ress Enter`);
    }
    return text;
  };
  return { words };
})();

// What the page's own buttons and options do, said where the pointer rests; window.dragganTips has it by their ids.
document.addEventListener('pointerover', ({ target }) => {
  const part = target.closest?.('[id^="dg-"]'), tip = window.dragganTips?.[part?.id];
  if (tip && !part.title) part.title = tip;
}, true);

// A database of this browser: `transact(mode, act)` calls act with its stores, and all of it happens or nothing.
window.dragganDatabase = (name, stores) => {
  let opening = null;
  const open = () => {
    opening ||= new Promise((good, bad) => {
      const request = indexedDB.open(name, 1);
      request.onupgradeneeded = () => stores.forEach((store) => request.result.createObjectStore(store));
      request.onsuccess = () => good(request.result);
      request.onerror = request.onblocked = () => bad(request.error);
    });
    // One refusal is not for ever.
    opening.catch(() => { opening = null; });
    return opening;
  };
  const settled = (request) => new Promise((good, bad) => {
    request.onsuccess = () => good(request.result);
    request.onerror = () => bad(request.error);
  });
  async function transact(mode, act) {
    const transaction = (await open()).transaction(stores, mode);
    const ended = new Promise((good, bad) => {
      transaction.oncomplete = good;
      transaction.onabort = () => bad(transaction.error);    // after an error, too, and only then it says which
    });
    const result = await act(...stores.map((store) => transaction.objectStore(store)));
    await ended;
    return result;
  }
  return { open, settled, transact };
};

// How files are saved, as it was shown last in this tab, else as it was chosen last in this browser.
window.dragganFileOptions = (() => {
  const KEY = 'draggan-file-options';
  const read = (storage) => {
    try { return JSON.parse(window[storage].getItem(KEY)) ?? {}; } catch { return {}; }
  };
  const label = (form) => `Save ${form}`;
  function keep(storage, name, value) {
    try { window[storage].setItem(KEY, JSON.stringify({ ...read(storage), [name]: value })); } catch { /* it keeps nothing */ }
    return label(value);
  }
  // Values of all, and what is on the buttons; each of `allowed` is [name, values].
  function kept(allowed, values) {
    const last = { ...read('localStorage'), ...read('sessionStorage') };
    const now = allowed.map(([name, all], k) => (all.includes(last[name]) ? last[name] : values[k]));
    const form = (name) => label(now[allowed.findIndex(([other]) => other === name)]);
    return [...now, form('dg-picture-format'), form('dg-film-format')];
  }
  return { keep, kept };
})();

// A file's content in base64.
window.dragganFile = (file) => new Promise((good, bad) => {
  const reader = new FileReader();
  reader.onerror = () => bad(reader.error);
  reader.onload = () => good(reader.result.slice(reader.result.indexOf(',') + 1));
  reader.readAsDataURL(file);
});

// A place that files are dropped at, with a box to choose one.
window.dragganDrop = (zone, input, take) => {
  input.addEventListener('change', () => { take(input.files[0]); input.value = ''; });
  for (const name of ['dragenter', 'dragover']) {
    zone.addEventListener(name, (event) => { event.preventDefault(); zone.dataset.over = ''; });
  }
  for (const name of ['dragleave', 'drop']) zone.addEventListener(name, () => delete zone.dataset.over);
  zone.addEventListener('drop', (event) => { event.preventDefault(); take(event.dataTransfer.files[0]); });
};
