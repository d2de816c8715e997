// The endless grid. All tiles that came are in a flat list; only those near the window are in the document.
import { getInBackground, getJson, isAbort, root } from './api.js';
import { compose, keep } from './address.js';
import { isFilm, sayPosition } from './film.js';
import { say, sayMonth } from './i18n.js';
import { findCutoff, layOut } from './layout.js';

const FIRST = 16;
const NEXT = 48;
const MOST = 500; // of one request
const AHEAD = 2; // windows above and below whose tiles are in the document

const list = document.getElementById('grid');
const template = document.getElementById('tile-template');

export const grid = {
  query: null,
  tiles: [],
  total: 0,
  hasMore: false,
  isRanked: false,
  answer: null,
  mode: readChoice('layout', 'whole'),
  isDetailed: readChoice('details', '') === 'on',
  // Called with an answer, with an error, and when tiles were added or taken away.
  onAnswer: () => {},
  onError: () => {},
  onChange: () => {},
  onTile: () => {}, // with an element and the tile it shows now
};

let places = new Map(); // image id to index
let nextOffset = 0;
let sequence = 0; // of questions: an answer to an older one is dropped
let request = null;
let loading = null;
let rows = [];
let nodes = new Map(); // image id, or heading, to element
let width = 0; // of the list when it was last shown: behind the Library tab it has none
let hasScrolled = false; // the first tiles stay alone until the visitor goes on

// Ask a question. count, scroll: as they were kept with a history entry.
export async function load(query, { count = FIRST, scroll = 0 } = {}) {
  sequence += 1;
  const mine = sequence;
  request?.abort();
  request = new AbortController();
  const { signal } = request;
  grid.query = query;
  loading = null;
  document.body.classList.add('asking');
  try {
    let answer = await fetchTiles(query, 0, Math.min(MOST, Math.max(FIRST, count)), signal);
    if (mine !== sequence) return;
    const tiles = [...answer.tiles];
    let more = answer;
    while (more.has_more && tiles.length < count) {
      more = await fetchTiles(query, tiles.length, Math.min(MOST, count - tiles.length), signal);
      if (mine !== sequence) return;
      tiles.push(...more.tiles);
    }
    show({ ...answer, tiles, has_more: more.has_more });
    if (scroll) hasScrolled = true;
    scrollTo(0, scroll);
    draw();
  } catch (error) {
    if (mine !== sequence || isAbort(error)) return;
    show({ tiles: [], total: 0, has_more: false, ranked: false });
    grid.onError(error);
  } finally {
    if (mine === sequence) document.body.classList.remove('asking');
  }
}

// Ask again without moving anything: for what has come into the library meanwhile.
export async function refresh() {
  const mine = sequence;
  for (;;) {
    await loading;
    const before = grid.tiles.length;
    const count = Math.min(MOST, Math.max(FIRST, before));
    const answer = await fetchTiles(grid.query, 0, count, null, getInBackground);
    if (mine !== sequence) return;
    // Tiles that came or went meanwhile would go or come again.
    if (!loading && grid.tiles.length === before) return show(answer);
  }
}

// The next tiles, if there are any. Returns whether some came.
export function loadMore() {
  if (!grid.hasMore || document.body.classList.contains('asking')) return Promise.resolve(false);
  const mine = sequence;
  loading ??= fetchTiles(grid.query, nextOffset, NEXT, request?.signal)
    .then((answer) => {
      if (mine !== sequence) return false;
      nextOffset += answer.tiles.length;
      grid.hasMore = answer.has_more && answer.tiles.length > 0;
      grid.total = answer.total;
      const count = grid.tiles.length;
      append(answer.tiles);
      loading = null;
      redraw();
      grid.onChange();
      return grid.tiles.length > count;
    })
    .catch((error) => {
      if (mine !== sequence || isAbort(error)) return false;
      loading = null;
      hasScrolled = false; // the button tries again, or scrolling
      grid.onError(error, true);
      return false;
    });
  return loading;
}

// The tile at a place, loading up to it. null behind the last one.
export async function getTile(index) {
  while (index >= grid.tiles.length && (await loadMore()));
  return grid.tiles[index] ?? null;
}

export const findPlace = (id) => places.get(id) ?? -1;

export function removeTile(id) {
  const index = findPlace(id);
  if (index >= 0) removeTiles([id]);
  return index;
}

// ids: images that are gone; count: how many of the whole answer, for not all need be loaded.
export function removeTiles(ids, count = ids.length) {
  const gone = new Set(ids);
  const before = grid.tiles.length;
  grid.tiles = grid.tiles.filter((tile) => !gone.has(tile.id));
  grid.total -= count;
  nextOffset -= before - grid.tiles.length;
  number();
  redraw();
  grid.onChange();
}

export function insertTile(index, tile) {
  if (places.has(tile.id)) return;
  grid.tiles.splice(index, 0, tile);
  grid.total += 1;
  nextOffset += 1;
  number();
  redraw();
  grid.onChange();
}

export function setMode(mode) {
  grid.mode = mode;
  keepChoice('layout', mode);
  redraw(true);
}

export function setDetailed(isDetailed) {
  grid.isDetailed = isDetailed;
  keepChoice('details', isDetailed ? 'on' : '');
  document.body.classList.toggle('detailed', isDetailed);
  redraw(true);
}

// Scroll as little as needed to see a tile, and give it the focus.
export function reveal(id, { focus = true } = {}) {
  const row = rows.find(({ cells }) => cells.some(({ index }) => grid.tiles[index]?.id === id));
  if (!row) return;
  const top = list.getBoundingClientRect().top + scrollY + row.top;
  const header = document.getElementById('top').dataset.height ?? 80;
  if (top < scrollY + Number(header) || top + row.height > scrollY + innerHeight)
    scrollTo(0, Math.max(0, top - (innerHeight - row.height) / 2));
  draw();
  if (focus) nodes.get(id)?.querySelector('.tile').focus({ preventScroll: true });
}

function fetchTiles(query, offset, limit, signal, get = getJson) {
  const page = new URLSearchParams(query);
  page.set('offset', offset);
  page.set('limit', limit);
  return get(`ui/results?${page}`, signal);
}

function show(answer) {
  grid.answer = answer;
  grid.total = answer.total;
  grid.hasMore = answer.has_more;
  grid.isRanked = answer.ranked;
  nextOffset = answer.tiles.length;
  grid.tiles = [];
  places = new Map();
  append(answer.tiles);
  redraw();
  grid.onAnswer(answer);
  grid.onChange();
}

function append(tiles) {
  // An image that was registered meanwhile moves the others on: each stands in the grid once.
  for (const tile of tiles) {
    if (places.has(tile.id)) continue;
    places.set(tile.id, grid.tiles.length);
    grid.tiles.push(tile);
  }
}

function number() {
  places = new Map(grid.tiles.map((tile, index) => [tile.id, index]));
}

// --- drawing --------------------------------------------------------------------------------------------------------

function makeHeadings() {
  const parameters = new URLSearchParams(grid.query);
  if (parameters.get('order') === 'taken') {
    return (tile, index) => {
      if (index && grid.tiles[index - 1].month === tile.month) return '';
      return { heading: `month ${tile.month}`, text: sayMonth(tile.month), kind: 'month' };
    };
  }
  const cutoff = grid.isRanked && !parameters.get('order') ? findCutoff(grid.tiles) : 0;
  return (_, index) => (cutoff && index === cutoff ? { heading: 'line', text: say('line'), kind: 'line' } : '');
}

function redraw(isAnchored = false) {
  const anchor = isAnchored ? findAnchor() : null;
  const { rows: laidOut, height } = layOut(grid.tiles, {
    width: list.clientWidth || width,
    mode: grid.mode,
    detailed: grid.isDetailed,
    headingOf: makeHeadings(),
    isComplete: !grid.hasMore,
  });
  rows = laidOut;
  list.style.height = `${height}px`;
  list.dataset.mode = grid.mode;
  if (anchor) restoreAnchor(anchor);
  draw();
}

// The tile at the top of the window stays there when everything else moves.
function findAnchor() {
  const offset = scrollY - (list.getBoundingClientRect().top + scrollY);
  if (offset <= 0) return null;
  const row = rows.find(({ top, height, cells }) => cells.length && top + height > offset);
  return row && { id: grid.tiles[row.cells[0].index]?.id, distance: row.top - offset };
}

function restoreAnchor({ id, distance }) {
  const row = rows.find(({ cells }) => cells.some(({ index }) => grid.tiles[index]?.id === id));
  if (row) scrollTo(0, list.getBoundingClientRect().top + scrollY + row.top - distance);
}

function draw() {
  const offset = -list.getBoundingClientRect().top;
  const [from, to] = [offset - AHEAD * innerHeight, offset + (AHEAD + 1) * innerHeight];
  const wanted = new Map();
  const focused = document.activeElement?.closest?.('#grid li');
  for (let place = findRow(from); place < rows.length && rows[place].top < to; place += 1) addRow(rows[place], wanted);
  // A tile that has the focus stays, wherever the window is.
  if (focused?.dataset.id && !wanted.has(Number(focused.dataset.id))) {
    const row = rows.find(({ cells }) => cells.some(({ index }) => grid.tiles[index].id === Number(focused.dataset.id)));
    if (row) addRow(row, wanted);
  }
  for (const [key, node] of nodes) if (!wanted.has(key)) (remove(node), nodes.delete(key));
  const order = [...wanted.entries()].sort(([, a], [, b]) => a.place - b.place);
  let next = list.firstElementChild;
  for (const [key, { row, cell }] of order) {
    let node = nodes.get(key);
    if (!node) nodes.set(key, (node = cell ? makeTile(grid.tiles[cell.index]) : makeHeading(row)));
    if (node === next) next = next.nextElementSibling;
    else list.insertBefore(node, next);
    place(node, row, cell);
  }
}

// Remove a node, and cancel the load of its image: the images in sight would wait for it.
function remove(node) {
  node.remove();
  const image = node.querySelector('img');
  if (!image || image.complete) return;
  image.removeAttribute('srcset');
  image.removeAttribute('src');
}

function addRow(row, wanted) {
  if (!row.cells.length) wanted.set(row.heading, { row, place: row.top });
  for (const cell of row.cells) wanted.set(grid.tiles[cell.index].id, { row, cell, place: row.top + cell.index / 1e7 });
}

// The first row that ends below a height.
function findRow(height) {
  let [low, high] = [0, rows.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].top + rows[middle].height < height) low = middle + 1;
    else high = middle;
  }
  return low;
}

function place(node, row, cell) {
  const style = node.style;
  style.transform = `translate(${cell ? cell.left : 0}px, ${row.top}px)`;
  style.width = cell ? `${cell.width}px` : '100%';
  style.height = `${row.height}px`;
  if (!cell) return;
  const tile = grid.tiles[cell.index];
  if (node.tile !== tile) describe(node, tile);
  node.setAttribute('aria-posinset', cell.index + 1);
  node.setAttribute('aria-setsize', grid.total);
  node.querySelector('.tile').href = compose(grid.query, { image: tile.id });
}

function makeHeading({ text, kind }) {
  const node = document.createElement('li');
  node.className = kind;
  const inner = document.createElement(kind === 'month' ? 'h3' : 'span');
  inner.textContent = text;
  node.append(inner);
  return node;
}

function makeTile(tile) {
  const node = template.content.firstElementChild.cloneNode(true);
  const image = node.querySelector('img');
  node.dataset.id = tile.id;
  node.querySelector('.tile').dataset.id = tile.id;
  image.addEventListener('load', () => node.classList.add('loaded'), { once: true });
  image.addEventListener('error', () => node.classList.add('broken'));
  return node;
}

// Show an image as an answer describes it. Its node stays when the next answer has the image, too.
function describe(node, tile) {
  const find = (selector) => node.querySelector(selector);
  node.tile = tile;
  find('.tile').title = tile.name;
  const image = find('img');
  const preview = new URL(`images/${tile.id}/preview?v=${tile.version}`, root).href;
  if (image.dataset.preview !== preview) {
    image.dataset.preview = preview;
    image.srcset = `${preview}&small=1 384w, ${preview} 768w`;
    image.sizes = grid.mode === 'square' ? '190px' : '300px';
    image.src = `${preview}&small=1`;
    if (tile.color) image.style.backgroundColor = tile.color;
  }
  image.alt = tile.alt;
  find('.name').textContent = tile.name;
  find('.name').ariaHidden = tile.alt === tile.name ? 'true' : null; // said once
  find('.similar').ariaLabel = say('condition', { name: say('show_similar'), value: tile.name });
  if (isFilm(tile)) {
    find('.moment').hidden = false;
    find('.moment .time').textContent = sayPosition(tile.frame_ms);
    if (tile.moments) {
      find('.moment .others').textContent = say('other_moments', { count: tile.moments });
      find('.moment').title = say('other_moments_title', { count: tile.moments });
    }
  }
  find('.distance').textContent = tile.distance === null ? '' : tile.distance.toFixed(4);
  find('.text-mark').hidden = !tile.found_in_text;
  const badge = find('.badge');
  badge.hidden = !(tile.found_by && isMixed());
  badge.classList.remove('words', 'meaning', 'both');
  if (!badge.hidden) {
    badge.classList.add(tile.found_by);
    badge.textContent = say(`found_by_${tile.found_by}`);
  }
  const bar = find('.bar');
  bar.hidden = tile.relevance === null;
  bar.classList.toggle('low', tile.relevance < 0.5);
  bar.firstElementChild.style.width = `${tile.relevance * 100}%`;
  grid.onTile(node, tile);
}

// How an image was found is worth a word only where there is more than one way.
function isMixed() {
  return grid.tiles.some((tile) => tile.found_by === 'words' || tile.found_by === 'both');
}

// --- scrolling and keys -----------------------------------------------------------------------------------------------

let isScheduled = false;
let timer = 0;

function onScroll() {
  if (isScheduled) return;
  isScheduled = true;
  requestAnimationFrame(() => {
    isScheduled = false;
    draw();
    loadIfNear();
    clearTimeout(timer);
    timer = setTimeout(keepPlace, 150);
  });
}

export function keepPlace() {
  if (['asking', 'viewing'].some((name) => document.body.classList.contains(name))) return; // the viewer keeps its own
  // As many as lie above the end of what is in the document: who has been at the end of 20,000 and is back need not load all.
  const bottom = (AHEAD + 1) * innerHeight - list.getBoundingClientRect().top;
  const last = rows[Math.min(findRow(bottom), rows.length - 1)]?.cells.at(-1);
  keep({ scroll: scrollY, count: last ? last.index + 1 : grid.tiles.length });
}

async function loadIfNear() {
  const isNear = () => isShown() && list.getBoundingClientRect().bottom < (AHEAD + 1) * innerHeight;
  while (hasScrolled && isNear() && (await loadMore()));
}

function goOn() {
  if (hasScrolled) return;
  hasScrolled = true;
  loadIfNear();
}

export function start() {
  document.body.classList.toggle('detailed', grid.isDetailed);
  addEventListener('scroll', onScroll, { passive: true });
  addEventListener('pagehide', keepPlace);
  addEventListener('wheel', (event) => event.deltaY > 0 && isOnGrid() && goOn(), { passive: true });
  addEventListener('touchmove', () => isOnGrid() && goOn(), { passive: true });
  addEventListener('scroll', () => scrollY > 40 && isOnGrid() && goOn(), { passive: true });
  let known = 0;
  new ResizeObserver(() => {
    if (list.clientWidth === known) return;
    known = list.clientWidth;
    if (!known) return;
    width = known;
    redraw(true);
    loadIfNear();
  }).observe(list);
  list.addEventListener('keydown', onKey);
}

// Not so behind the Library tab, where it also seems to end above every window.
const isShown = () => list.clientWidth > 0;

const isOnGrid = () => isShown() && grid.tiles.length > 0 && !document.body.classList.contains('viewing');

function onKey(event) {
  const tile = event.target.closest('.tile');
  if (!tile || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  const index = findPlace(Number(tile.dataset.id));
  const next = { ArrowLeft: index - 1, ArrowRight: index + 1, ArrowUp: findBeside(index, -1), ArrowDown: findBeside(index, 1) };
  const target = next[event.key];
  if (target === undefined) return;
  event.preventDefault();
  if (target >= grid.tiles.length - 1) goOn();
  if (grid.tiles[target]) reveal(grid.tiles[target].id);
}

// The tile above or below: the one nearest to the middle of this one.
function findBeside(index, direction) {
  const place = rows.findIndex(({ cells }) => cells.some((cell) => cell.index === index));
  const cell = rows[place]?.cells.find((other) => other.index === index);
  let row = rows[place + direction];
  if (row && !row.cells.length) row = rows[place + 2 * direction];
  if (!cell || !row) return index;
  const middle = ({ left, width }) => left + width / 2;
  return row.cells.reduce((best, other) =>
    Math.abs(middle(other) - middle(cell)) < Math.abs(middle(best) - middle(cell)) ? other : best,
  ).index;
}

function readChoice(name, otherwise) {
  try {
    return localStorage.getItem(`image-search-${name}`) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function keepChoice(name, value) {
  try {
    localStorage.setItem(`image-search-${name}`, value);
  } catch {
    // Private windows keep nothing; the choice lasts as long as the page.
  }
}
