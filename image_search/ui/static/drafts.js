// Changes to an image on their way to the program. They outlive a login that has ended, and a reload, until they are saved.
import { postJson } from './api.js';
import { say } from './i18n.js';
import { showToast } from './toasts.js';

const KEPT = 'image-search-drafts';
const RETRY = 2000; // milliseconds

// Image id to what is not saved yet: { description, rating, add_keywords, remove_keywords, revert }.
const drafts = new Map(readKept());
const sent = new Map(); // image id to the draft that an answer is awaited for
const runs = new Map(); // image id to a promise
const timers = new Map();
const told = new Map(); // image id to what removes the message that it is not saved
let listener = () => {};

// call: with an image id, and its edits as they are saved; null when they could not be.
export function onAnswer(call) {
  listener = call;
}

export const getDraft = (id) => drafts.get(id) ?? {};

// When nothing of an image is being sent.
export const whenSent = (id) => runs.get(id);

export function save(id, changes) {
  drafts.set(id, merge(getDraft(id), changes));
  keep();
  return send(id);
}

// One request at a time for each image, so that none overtakes the one before it; the next has all that came meanwhile.
function send(id) {
  clearTimeout(timers.get(id));
  if (!runs.has(id) && drafts.has(id)) runs.set(id, run(id));
  return runs.get(id);
}

async function run(id) {
  let draft = null;
  try {
    while (drafts.has(id) && drafts.get(id) !== draft) {
      draft = drafts.get(id);
      await post(id, draft);
    }
  } finally {
    runs.delete(id);
  }
}

async function post(id, draft) {
  sent.set(id, draft);
  let edits = null;
  try {
    edits = await postJson(`ui/images/${id}/edits`, draft);
  } catch (error) {
    tell(id, error);
  } finally {
    sent.delete(id);
  }
  if (edits) forget(id, draft);
  listener(id, edits);
}

function forget(id, saved) {
  const rest = subtract(getDraft(id), saved);
  if (Object.keys(rest).length) drafts.set(id, rest);
  else drafts.delete(id);
  keep();
  if (!told.has(id)) return;
  told.get(id)();
  told.delete(id);
  showToast(say('saved'));
}

function tell(id, error) {
  const isAway = !error.status || error.status >= 500;
  if (isAway) timers.set(id, setTimeout(send, RETRY, id));
  if (isAway && told.has(id)) return;
  const isGone = error.code === 'image_gone'; // to the trash, in another tab
  const remove = showToast(`${say('not_saved')} ${error.title ?? ''}`, {
    action: say(isGone ? 'restore' : 'try_again'),
    onAction: () => (isGone ? postJson('ui/restore', { ids: [id] }).finally(() => send(id)) : send(id)),
    seconds: 12,
  });
  told.set(id, remove);
}

// A draft with more changes; the later of two wins.
function merge(draft, { add_keywords: added = [], remove_keywords: removed = [], revert = [], ...fields }) {
  const merged = { ...draft, ...fields };
  for (const name of revert) delete merged[name];
  const isReverted = revert.includes('keywords');
  const join = (words = [], others, more) => [...new Set([...(isReverted ? [] : leaveOut(words, others)), ...more])];
  const lists = {
    add_keywords: join(draft.add_keywords, removed, added),
    remove_keywords: join(draft.remove_keywords, added, removed),
    revert: leaveOut([...new Set([...(draft.revert ?? []), ...revert])], Object.keys(fields)),
  };
  return leaveOutEmpty({ ...merged, ...lists });
}

// A draft without what has been saved.
function subtract(draft, saved) {
  const rest = {};
  const isReverted = draft.revert?.includes('keywords') && !saved.revert?.includes('keywords'); // these came afterwards
  for (const [name, value] of Object.entries(draft)) {
    if (isReverted && name.endsWith('_keywords')) rest[name] = value;
    else if (Array.isArray(value)) rest[name] = leaveOut(value, saved[name] ?? []);
    else if (value !== saved[name]) rest[name] = value;
  }
  return leaveOutEmpty(rest);
}

const leaveOut = (words, others) => words.filter((word) => !others.includes(word));
const leaveOutEmpty = (draft) => Object.fromEntries(Object.entries(draft).filter(([, value]) => !Array.isArray(value) || value.length));

function readKept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT)) ?? [];
  } catch {
    return [];
  }
}

function keep() {
  try {
    sessionStorage.setItem(KEPT, JSON.stringify([...drafts]));
  } catch {
    // They last as long as the page.
  }
}

// When the page is left, a change that waits for the request before it is sent at once.
addEventListener('pagehide', () => {
  for (const [id, draft] of sent)
    if (drafts.get(id) !== draft) postJson(`ui/images/${id}/edits`, drafts.get(id)).catch(() => {});
});
for (const id of drafts.keys()) send(id);
