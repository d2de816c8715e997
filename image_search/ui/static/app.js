// Starts the page. The address is the state: whatever changes it, follow() makes the page show it.
import { compose, composeSimilar, onChange, push, read, resume } from './address.js';
import { getInBackground, getJson } from './api.js';
import * as bar from './bar.js';
import * as chips from './chips.js';
import * as filters from './filters.js';
import * as grid from './grid.js';
import { say } from './i18n.js';
import { findCutoff } from './layout.js';
import * as labels from './labels.js';
import * as library from './library.js';
import * as select from './select.js';
import * as suggest from './suggest.js';
import * as viewer from './viewer.js';

const get = (id) => document.getElementById(id);
const RETRY = 2000; // milliseconds
const PROGRESS = 1500;
const SLOW = 600;

history.scrollRestoration = 'manual';

async function follow(how) {
  const { query, image, tab } = read();
  const isBack = tab === 'search' && document.body.dataset.tab === 'library';
  showTab(tab);
  if (tab !== 'search' || image) filters.closeSheet();
  document.querySelector('#tabs a[data-tab=search]').setAttribute('href', tab === 'search' ? '?' : `?${query}`);
  if (query !== grid.grid.query) {
    const kept = how === 'push' ? {} : (history.state ?? {});
    get('order').value = new URLSearchParams(query).get('order') ?? '';
    bar.fill({ isOpening: how === 'start' });
    filters.fill();
    chips.show();
    suggest.close();
    if (how === 'push') scrollTo(0, 0);
    viewer.follow(null);
    select.follow(query);
    await search(query, kept);
    if (read().query !== query) return;
  } else if (isBack) {
    scrollTo(0, history.state?.scroll ?? 0);
    if (get('message').querySelector('.problem')) search(query);
  }
  viewer.follow(read().image);
  resume();
}

function ask() {
  search(read().query);
  scrollTo(0, 0);
}

// The first search waits for the model: one that takes long says so.
async function search(query, kept) {
  const timer = setTimeout(() => (get('count').textContent = get('said').textContent = say('searching')), SLOW);
  await grid.load(query, kept);
  clearTimeout(timer);
}

function showTab(tab) {
  document.body.dataset.tab = tab;
  get('search-page').hidden = tab !== 'search';
  get('library-page').hidden = tab !== 'library';
  library.follow(tab === 'library');
  const isSearch = tab === 'search';
  get('skip').textContent = say(isSearch ? 'to_results' : 'to_library');
  setTitle();
  for (const link of document.querySelectorAll('#tabs a')) {
    if (link.dataset.tab === tab) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
}

// --- around the grid ------------------------------------------------------------------------------------------------

function showAnswer(answer) {
  get('heading').textContent = answer.heading ?? '';
  get('heading').dataset.address = grid.grid.query;
  get('count').textContent = answer.count ?? '';
  get('timing').textContent = answer.timing ?? '';
  filters.showFound(answer.count);
  for (const option of get('order').options) option.hidden = option.value === '' && !answer.ranked;
  if (!get('order').value) get('order').value = answer.ranked ? '' : 'registered';
  const isPoor = answer.has_match === false && answer.tiles.length && !findCutoff(answer.tiles);
  if (answer.message) showMessage(answer.message);
  else if (isPoor) showMessage({ kind: 'notice', title: say('no_match'), hint: say('no_match_hint') });
  else get('message').replaceChildren();
  chips.show(answer.ignored, answer.note);
  chips.showExamples(answer.examples ?? []);
  const condition = get('chips').querySelector('.chip:not(.ignored) span')?.textContent ?? '';
  searched = new URLSearchParams(grid.grid.query).get('q') || (answer.ranked ? answer.heading : condition);
  setTitle();
  // In one sentence, and new for each question: two answers may have the same count.
  const outcome = answer.message?.title ?? (isPoor ? say('no_match') : '');
  get('said').textContent = [searched || answer.heading, outcome, answer.count].filter(Boolean).join(say('list_separator'));
  filters.count();
}

let title = document.title;
let searched = ''; // what the search is called, '' for none

function setTitle() {
  const query = document.body.dataset.tab === 'library' ? say('tab_library') : searched;
  document.title = query ? say('page_title', { query }) : say('title');
  title = document.title; // as the browser gives it, without double blanks; else the observer would never rest
}

// Gradio sets a title of its own when it is ready.
new MutationObserver(() => {
  if (document.title !== title) document.title = title;
}).observe(document.head, { childList: true, subtree: true, characterData: true });

function showMessage({ kind, title, hint, retry, is_library_empty: isLibraryEmpty }, place = get('message')) {
  const node = get('message-template').content.firstElementChild.cloneNode(true);
  node.classList.add(kind);
  node.setAttribute('role', kind === 'problem' ? 'alert' : 'status');
  node.querySelector('strong').textContent = title;
  node.querySelector('p').textContent = hint ?? '';
  const button = node.querySelector('button');
  button.hidden = !retry;
  button.addEventListener('click', retry);
  node.querySelector('a').hidden = !isLibraryEmpty;
  place.replaceChildren(node);
  return node;
}

function showError(error, isMore = false) {
  const isAway = !error.status || error.status >= 500;
  const title = error.status ? error.title : say('offline');
  if (isMore) {
    get('more').hidden = false;
    return;
  }
  get('heading').textContent = '';
  get('count').textContent = '';
  get('timing').textContent = '';
  filters.showFound('');
  showMessage({ kind: 'problem', title, hint: error.hint, retry: ask });
  if (isAway) setTimeout(retry, RETRY, grid.grid.query);
}

// The page comes back by itself when database and program are back.
async function retry(query) {
  if (read().query !== query || !get('message').querySelector('.problem')) return;
  try {
    await getJson(`ui/results?${query}`);
  } catch (error) {
    if (!error.status || error.status >= 500) setTimeout(retry, RETRY, query);
    return;
  }
  if (read().query === query) grid.load(query);
}

function showCount() {
  get('more').hidden = !grid.grid.hasMore;
  if (grid.grid.answer?.count) get('count').textContent = say('library', { total: grid.grid.total });
}

let wasOver = true;

async function watchProgress() {
  const progress = await getInBackground('ui/progress').catch(() => null);
  const place = get('notice');
  if (progress?.kind) {
    const node = showMessage({ ...progress, kind: progress.kind === 'problem' ? 'problem' : 'notice' }, place);
    node.classList.toggle('busy', progress.is_loading);
    const bar_ = node.querySelector('progress');
    bar_.hidden = progress.kind !== 'progress';
    Object.assign(bar_, { max: Math.max(progress.count, 1), value: progress.done });
  }
  if (progress) place.hidden = !progress.kind;
  const isNewest = grid.grid.answer?.newest && scrollY < 40 && !viewer.isOpen() && grid.grid.tiles.length <= 16;
  const isEmpty = grid.grid.answer?.message?.kind === 'empty'; // a search that waits for the first images
  if (progress && (isNewest || isEmpty) && (!progress.is_over || !wasOver)) grid.refresh().catch(() => {});
  if (progress?.is_over) library.completeSamples();
  wasOver = !progress || progress.is_over;
  if (!wasOver || !progress) setTimeout(watchProgress, PROGRESS);
}

// --- start ------------------------------------------------------------------------------------------------------------

// Links to questions and images of this page are followed without loading it again.
document.addEventListener('click', (event) => {
  const link = event.target.closest('a[href^="?"]');
  if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  const like = link.dataset.like;
  if (like) return push(composeSimilar(like));
  grid.keepPlace();
  const isViewer = read(link.getAttribute('href')).image !== null;
  const address = link.getAttribute('href') === '?' ? location.pathname : link.getAttribute('href');
  return push(address, isViewer ? { ...history.state, viewer: true } : {});
});
document.addEventListener('click', (event) => {
  const cell = event.target.closest('.similar') && event.target.closest('li');
  if (cell) push(composeSimilar(cell.dataset.id));
});
document.addEventListener('keydown', (event) => {
  const tile = event.target.closest?.('#grid .tile');
  if (tile && event.key === 's' && !event.ctrlKey && !event.metaKey && !event.altKey) push(composeSimilar(tile.dataset.id));
});
document.addEventListener('keydown', (event) => {
  const isTyped = event.target.closest?.('input, textarea, select, dialog') || event.isComposing;
  if (event.key === '?' && !isTyped && !viewer.isOpen()) get('keys').showModal();
});
// Gradio sets a base address, below which #grid is another page.
get('skip').addEventListener('click', (event) => {
  event.preventDefault();
  const isSearch = document.body.dataset.tab === 'search';
  (isSearch ? (get('grid').querySelector('.tile') ?? get('grid')) : get('library-page')).focus();
});
get('more').addEventListener('click', () => grid.loadMore());
get('order').addEventListener('change', ({ target }) => push(compose(read().query, { order: target.value })));
get('layout-toggle').addEventListener('click', () => (grid.setMode(grid.grid.mode === 'square' ? 'whole' : 'square'), showChoices()));
get('details-toggle').addEventListener('click', () => (grid.setDetailed(!grid.grid.isDetailed), showChoices()));

function showChoices() {
  get('layout-toggle').setAttribute('aria-pressed', grid.grid.mode === 'square');
  get('details-toggle').setAttribute('aria-pressed', grid.grid.isDetailed);
}

Object.assign(grid.grid, { onAnswer: showAnswer, onError: showError, onChange: showCount });
select.start();
labels.start();
grid.start();
showChoices();
bar.start(ask);
filters.start();
suggest.start();
library.start(() => grid.refresh().catch(() => {}));
onChange(follow);
bar.normalize().finally(() => follow('start'));
watchProgress();
