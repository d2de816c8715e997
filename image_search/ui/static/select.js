// Images chosen in the grid, and what can be done with all of them at once.
import { addStep, isOnStep, read } from './address.js';
import { getInBackground, getJson, postJson, root } from './api.js';
import { copyText } from './clipboard.js';
import { findPlace, grid, load, removeTiles } from './grid.js';
import { joinSentences, say } from './i18n.js';
import { showToast } from './toasts.js';

const LONG_PRESS = 450; // milliseconds
const AT_ONCE = 500; // images of one request
const MAX_SHEET_IMAGES = 200; // as in exporting.py
const NAMED = 3; // missing files named in a toast

const list = document.getElementById('grid');
const bar = document.getElementById('selection');
const selected = new Set(); // image ids, in the order they were chosen
let last = null; // image a range begins at
let query = null; // the search they belong to
let hasStep = false; // whether Back ends the selection, as Escape does where there are keys

// --- choosing -----------------------------------------------------------------------------------------------------------

export function start() {
  grid.onTile = (node, tile) => {
    node.querySelector('.pick').setAttribute('aria-label', say('select_name', { name: tile.name }));
    mark(node);
  };
  list.addEventListener('click', onClick, true);
  list.addEventListener('keydown', onKey);
  document.addEventListener('keydown', onEscape);
  addEventListener('popstate', onBack);
  startPressing();
  bar.addEventListener('click', ({ target }) => {
    const name = target.closest('[data-select]')?.dataset.select;
    if (name) actions[name]();
  });
}

// A selection belongs to its search.
export function follow(asked) {
  if (asked !== query) clear();
  query = asked;
}

export function clear() {
  selected.clear();
  last = null;
  show();
}

function show() {
  document.body.classList.toggle('selecting', selected.size > 0);
  followStep();
  const hadFocus = bar.contains(document.activeElement);
  bar.hidden = !selected.size;
  if (bar.hidden && hadFocus) (list.querySelector('.tile') ?? list).focus();
  bar.querySelector('.selected').textContent = selected.size ? say('selected', { count: selected.size }) : '';
  for (const node of list.querySelectorAll('.cell')) mark(node);
}

function followStep() {
  if (selected.size && !hasStep && matchMedia('(hover: none)').matches) {
    hasStep = true;
    if (!isOnStep()) addStep();
  } else if (!selected.size && hasStep) {
    hasStep = false;
    if (isOnStep()) history.back();
  }
}

function onBack() {
  if (!hasStep || isOnStep() || read().tab !== 'search') return;
  hasStep = false;
  clear();
}

function mark(node) {
  const isChosen = selected.has(Number(node.dataset.id));
  node.classList.toggle('chosen', isChosen);
  node.querySelector('.pick').setAttribute('aria-checked', isChosen);
}

function toggle(id) {
  if (!selected.delete(id)) selected.add(id);
  last = id;
  show();
}

// Everything from the last one chosen to this one.
function extend(id) {
  const [from, to] = [last === null ? findPlace(id) : findPlace(last), findPlace(id)];
  if (from < 0 || to < 0) return toggle(id);
  for (const tile of grid.tiles.slice(Math.min(from, to), Math.max(from, to) + 1)) selected.add(tile.id);
  last = id;
  return show();
}

function onClick(event) {
  const cell = event.target.closest('.cell');
  if (!cell || event.target.closest('.similar') || event.button) return;
  const isBox = event.target.closest('.pick');
  // Without a selection a click opens; with the usual key, it opens a tab.
  if (!isBox && (event.ctrlKey || event.metaKey || event.altKey || !(selected.size || event.shiftKey))) return;
  event.preventDefault();
  event.stopPropagation();
  if (event.shiftKey) extend(Number(cell.dataset.id));
  else toggle(Number(cell.dataset.id));
}

function onKey(event) {
  const cell = event.target.closest('.cell');
  if (!cell || event.key.toLowerCase() !== 'x' || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  event.preventDefault();
  if (event.shiftKey) extend(Number(cell.dataset.id));
  else toggle(Number(cell.dataset.id));
}

function onEscape(event) {
  if (event.key !== 'Escape' || !selected.size || event.target.closest?.('dialog, input, textarea')) return;
  if (!document.body.classList.contains('viewing')) clear();
}

// A finger that stays on an image chooses it; the browser's own menu and the click that follows are left out.
function startPressing() {
  let timer = 0;
  let hasChosen = false;
  const stop = () => clearTimeout(timer);
  list.addEventListener('touchstart', (event) => {
    const cell = event.target.closest('.cell');
    stop();
    hasChosen = false;
    if (!cell || event.touches.length > 1) return;
    timer = setTimeout(() => {
      hasChosen = true;
      navigator.vibrate?.(15);
      toggle(Number(cell.dataset.id));
    }, LONG_PRESS);
  }, { passive: true });
  list.addEventListener('touchmove', stop, { passive: true });
  list.addEventListener('touchcancel', stop, { passive: true });
  list.addEventListener('touchend', (event) => {
    stop();
    if (hasChosen) event.preventDefault();
  });
  list.addEventListener('contextmenu', (event) => {
    if (event.pointerType === 'touch') event.preventDefault();
  });
}

// --- acting -------------------------------------------------------------------------------------------------------------

const actions = {
  clear,
  all: () => attempt(selectAll),
  keywords: () => attempt(addKeywords),
  rating: () => attempt(rate),
  zip: () => attempt(downloadZip),
  paths: () => attempt(copyPaths),
  sheet: () => attempt(downloadSheet),
  trash: () => attempt(trash),
};

async function attempt(action) {
  if (bar.classList.contains('busy')) return;
  bar.classList.add('busy');
  try {
    await action();
  } catch (error) {
    showToast(joinSentences(error.progress, error.title || say('offline'), error.hint), { kind: 'problem', seconds: 10 });
  } finally {
    bar.classList.remove('busy');
    bar.querySelector('progress').hidden = true;
    show();
  }
}

// Many images in pieces, so that no request takes long. Returns the answers. An error says how far it came.
async function postInPieces(path, ids, body = {}) {
  const answers = [];
  const progress = bar.querySelector('progress');
  for (let first = 0; first < ids.length; first += AT_ONCE) {
    if (ids.length > AT_ONCE) {
      bar.hidden = false; // also for an undo, after which nothing is selected
      Object.assign(progress, { hidden: false, max: ids.length, value: first });
      bar.querySelector('.selected').textContent = say('job_progress', { done: first, total: ids.length });
    }
    try {
      answers.push(await postJson(path, { ...body, ids: ids.slice(first, first + AT_ONCE) }));
    } catch (error) {
      if (first) error.progress = say('stopped_at', { count: first, total: ids.length });
      throw Object.assign(error, { answers });
    }
  }
  return answers;
}

async function selectAll() {
  const asked = grid.query;
  const { ids, total, kind } = await getJson(`ui/selection?${asked}`);
  if (grid.query !== asked) return;
  const found = kind === 'none' ? grid.tiles.map((tile) => tile.id) : ids;
  for (const id of found) selected.add(id);
  show();
  const key = { none: 'selected_shown', best: 'selected_best' }[kind] ?? (ids.length < total ? 'selected_first' : 'selected_all');
  showToast(say(key, { count: found.length, total }));
}

// Images that another tab deleted leave the selection and the grid, and are told.
function tellGone(missing) {
  if (!missing.length) return '';
  for (const id of missing) selected.delete(id);
  removeTiles(missing);
  show();
  return say('gone_meanwhile', { count: missing.length });
}

async function addKeywords() {
  const dialog = document.getElementById('keywords-dialog');
  const field = dialog.querySelector('input');
  const ids = [...selected];
  offerKeywords(dialog.querySelector('datalist'));
  const isMeant = (await askIn(dialog, say('keywords_title', { count: ids.length }), field)) === 'add';
  const words = isMeant ? field.value.split(/[,、，;；\n]/).map((word) => word.trim()).filter(Boolean) : [];
  // After an error they stay, for another try.
  const answers = words.length ? await postInPieces('ui/selection/keywords', ids, { add: words }) : [];
  field.value = '';
  if (!words.length) return;
  const added = words.map((word) => [word, answers.flatMap((answer) => answer.added[word] ?? [])]);
  const changed = new Set(added.flatMap(([, some]) => some));
  const missing = answers.flatMap((answer) => answer.missing);
  const gone = tellGone(missing);
  if (missing.length === ids.length) return showToast(gone);
  if (!changed.size) return showToast(joinSentences(say('keywords_there'), gone));
  return showUndo(joinSentences(say('keywords_added', { count: changed.size }), gone), async () => {
    for (const [word, some] of added) await postInPieces('ui/selection/keywords', some, { remove: [word] });
  });
}

async function offerKeywords(place) {
  const { keyword = [] } = await getInBackground('ui/facets?').catch(() => ({}));
  place.replaceChildren(...keyword.filter(({ value }) => value !== null).map(({ value }) => new Option('', value)));
}

async function rate() {
  const ids = [...selected];
  const answer = await askIn(document.getElementById('rating-dialog'), say('rating_title', { count: ids.length }));
  if (!/^[0-5]$/.test(answer)) return;
  const answers = await postInPieces('ui/selection/rating', ids, { rating: Number(answer) });
  const before = answers.flatMap((one) => one.before);
  const gone = tellGone(answers.flatMap((one) => one.missing));
  const count = before.reduce((sum, one) => sum + one.ids.length, 0);
  if (!count) return showToast(gone);
  return showUndo(joinSentences(say('rated', { count }), gone), async () => {
    for (const { rating, ids: some } of before) await postInPieces('ui/selection/rating', some, { rating });
  });
}

async function trash() {
  const ids = [...selected];
  const [before, scroll] = [grid.tiles.length, scrollY];
  const answers = await postInPieces('ui/trash', ids);
  const count = answers.reduce((sum, answer) => sum + answer.count, 0);
  const moved = answers.flatMap((answer) => answer.ids);
  removeTiles(ids, count);
  clear();
  if (!grid.tiles.length) await load(grid.query);
  const gone = moved.length < ids.length ? say('gone_meanwhile', { count: ids.length - moved.length }) : '';
  if (!count) return showToast(gone);
  const asked = grid.query;
  return showToast(joinSentences(say('trashed_count', { count }), gone), {
    action: say('undo'),
    seconds: 15,
    onAction: () =>
      attempt(async () => {
        const restored = await postInPieces('ui/restore', moved);
        if (grid.query === asked) await load(asked, { count: before, scroll });
        showToast(say('restored_count', { count: restored.reduce((sum, answer) => sum + answer.count, 0) }));
      }),
  });
}

async function downloadZip() {
  const { token, files, bytes, absent, missing } = await prepare();
  const size = sayBytes(bytes);
  const names = absent.slice(0, NAMED).join(say('list_separator')) + (absent.length > NAMED ? '…' : '');
  const left = absent.length ? say('originals_absent', { count: absent.length, names }) : '';
  showToast(joinSentences(say('download_begins', { count: files, size }), left, tellGone(missing)), { seconds: left ? 12 : 6 });
  fetchFile(`ui/selection/downloads/${token}/pictures.zip`);
}

async function downloadSheet() {
  const { token, count, missing } = await prepare();
  const cut = count > MAX_SHEET_IMAGES ? say('sheet_first', { count: MAX_SHEET_IMAGES }) : '';
  const text = joinSentences(cut, tellGone(missing));
  if (text) showToast(text);
  fetchFile(`ui/selection/downloads/${token}/contact_sheet.jpg`);
}

const prepare = () => postJson('ui/selection/downloads', { ids: [...selected] });

// The browser takes the file as it comes; the page holds none of it.
function fetchFile(path) {
  const link = Object.assign(document.createElement('a'), { href: new URL(path, root).href, download: '' });
  document.body.append(link);
  link.click();
  link.remove();
}

async function copyPaths() {
  const { paths, without, missing } = await postJson('ui/selection/paths', { ids: [...selected] });
  const gone = tellGone(missing);
  if (!paths.length) return showToast(without ? joinSentences(say('no_paths'), gone) : gone);
  const left = without ? say('paths_without', { count: without }) : '';
  const done = joinSentences(say('paths_copied', { count: paths.length }), left, gone);
  return copyText(paths.join('\n'), document.body, done, joinSentences(say('paths_not_copied'), gone));
}

function showUndo(text, undo) {
  showToast(text, {
    action: say('undo'),
    seconds: 15,
    onAction: () => attempt(async () => (await undo(), showToast(say('undone')))),
  });
}

// Ask in a dialog. Returns the value of the button that closed it, '' for Escape.
function askIn(dialog, title, field = null) {
  dialog.querySelector('h2').textContent = title;
  dialog.returnValue = '';
  dialog.showModal();
  field?.focus();
  return new Promise((resolve) => dialog.addEventListener('close', () => resolve(dialog.returnValue), { once: true }));
}

function sayBytes(bytes) {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  const step = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  const value = bytes / 1024 ** step;
  return `${value.toLocaleString(undefined, { maximumFractionDigits: value < 10 && step ? 1 : 0 })} ${units[step]}`;
}
