// Suggestions below the words: a combobox with a list (ARIA practices). Recent searches stay in this browser.
import { getInBackground, isAbort } from './api.js';
import { compose, push, read } from './address.js';
import { say } from './i18n.js';

const list = document.getElementById('suggestions');
const RECENT = 'recent-searches';
const MAX_RECENT = 8;
const PAUSE = 120; // milliseconds after a key
let box = null;
let chosen = -1;
let items = [];
let timer = 0;
let abort = null;

export function start() {
  document.addEventListener('focusin', ({ target }) => {
    if (target.matches?.('#text textarea, #text input')) attach(target);
  });
  document.addEventListener('pointerdown', ({ target }) => {
    if (target !== box && !list.contains(target)) close();
  });
  // The focus stays in the box while the list is used.
  list.addEventListener('mousedown', (event) => event.preventDefault());
  list.addEventListener('click', ({ target }) => take([...list.children].indexOf(target.closest('li'))));
  addEventListener('resize', () => !list.hidden && place());
}

// Gradio draws the box again now and then.
function attach(found) {
  if (box === found) return;
  box = found;
  for (const [name, value] of Object.entries({
    role: 'combobox', 'aria-autocomplete': 'list', 'aria-controls': 'suggestions', 'aria-expanded': 'false',
  })) box.setAttribute(name, value);
  box.addEventListener('input', () => {
    clearTimeout(timer);
    timer = setTimeout(update, PAUSE);
  });
  box.addEventListener('click', () => list.hidden && !box.value && update());
  box.addEventListener('blur', close);
  box.addEventListener('keydown', onKey, true);
}

async function update() {
  const typed = box.value;
  abort?.abort();
  abort = new AbortController();
  if (!typed.trim()) return show(listRecent());
  const parameters = new URLSearchParams({ typed });
  try {
    const { suggestions } = await getInBackground(`ui/suggestions?${parameters}`, abort.signal);
    if (box.value === typed && document.activeElement === box) show(suggestions);
  } catch (error) {
    if (!isAbort(error)) close();
  }
  return undefined;
}

function show(found) {
  items = found;
  chosen = -1;
  list.replaceChildren(
    ...items.map(({ kind, text }, place_) => {
      const item = Object.assign(document.createElement('li'), { id: `suggestion-${place_}`, role: 'option' });
      item.dataset.kind = kind;
      item.append(Object.assign(document.createElement('span'), { textContent: text }));
      item.append(Object.assign(document.createElement('small'), { textContent: say(`suggest_${kind}`) }));
      return item;
    }),
  );
  list.hidden = !items.length;
  box.setAttribute('aria-expanded', String(!list.hidden));
  mark(-1);
  place();
}

function place() {
  const { left, bottom, width } = box.getBoundingClientRect();
  Object.assign(list.style, { left: `${left + scrollX}px`, top: `${bottom + scrollY + 4}px`, width: `${width}px` });
}

export function close() {
  clearTimeout(timer);
  abort?.abort();
  list.hidden = true;
  items = [];
  box?.setAttribute('aria-expanded', 'false');
  mark(-1);
}

function mark(number) {
  chosen = number;
  for (const [other, item] of [...list.children].entries()) item.setAttribute('aria-selected', String(other === number));
  if (number < 0) box?.removeAttribute('aria-activedescendant');
  else {
    box.setAttribute('aria-activedescendant', `suggestion-${number}`);
    list.children[number].scrollIntoView({ block: 'nearest' });
  }
}

function onKey(event) {
  if (event.isComposing) return;
  if (event.key === 'ArrowDown' && list.hidden) return void update();
  if (event.key === 'Enter') clearTimeout(timer);
  if (list.hidden) return;
  const last = items.length - 1;
  if (event.key === 'ArrowDown') mark(chosen === last ? 0 : chosen + 1);
  else if (event.key === 'ArrowUp') mark(chosen <= 0 ? last : chosen - 1);
  else if (event.key === 'Escape') close();
  else if (event.key === 'Enter' && chosen >= 0) take(chosen);
  else if (event.key === 'Enter') return close(); // and search with the words as they are
  else return;
  event.preventDefault();
  event.stopImmediatePropagation();
}

function take(number) {
  const item = items[number];
  if (!item) return;
  close();
  if (item.kind === 'clear') return forget();
  if (item.kind === 'recent') return push(item.value ? `?${item.value}` : location.pathname);
  const changes = { q: item.q, ...(item.parameter ? { [item.parameter]: item.value } : {}) };
  push(compose(read().query, changes));
}

// --- recent searches --------------------------------------------------------------------------------------------------

function load() {
  try {
    const kept = JSON.parse(localStorage.getItem(RECENT) ?? '[]');
    return Array.isArray(kept) ? kept.filter(({ text, query }) => text && query) : [];
  } catch {
    return []; // a browser that keeps nothing
  }
}

function save(kept) {
  try {
    if (kept.length) localStorage.setItem(RECENT, JSON.stringify(kept));
    else localStorage.removeItem(RECENT);
  } catch {
    // Without a place to keep them there are no recent searches.
  }
}

function listRecent() {
  const kept = load().map(({ text, query }) => ({ kind: 'recent', text, value: query }));
  return kept.length ? [...kept, { kind: 'clear', text: say('suggest_forget') }] : [];
}

// Keep the words of a question that was asked, with its conditions. An image is not kept.
export function remember() {
  const { parameters } = read();
  const text = parameters.get('q')?.trim();
  if (!text) return;
  for (const name of ['picture', 'notpicture', 'like']) parameters.delete(name);
  const query = parameters.toString();
  save([{ text, query }, ...load().filter((other) => other.query !== query)].slice(0, MAX_RECENT));
}

function forget() {
  save([]);
  box.focus();
}
