// One image large, on PhotoSwipe, with an address of its own. The panel beside it tells everything known of it.
import PhotoSwipe from './vendor/photoswipe/photoswipe.esm.min.js';
import { getJson, postJson, root } from './api.js';
import { compose, composeSimilar, push, read, replace } from './address.js';
import { FactsPanel } from './facts.js';
import { addFilms, isFilm } from './film.js';
import { findPlace, getTile, grid, insertTile, loadMore, refresh, removeTile, reveal } from './grid.js';
import { say } from './i18n.js';
import { forgetRoles } from './labels.js';
import { TextLayer } from './recognized_text.js';
import { moveToasts, showToast } from './toasts.js';

const MAX_BYTES_AT_ONCE = 8_000_000; // bytes; a larger original is fetched when one zooms in
const PANEL = 360; // pixels
const SHEET = 0.62; // of the window's height, where the panel comes from below; as in viewer.css
const keysDialog = document.getElementById('keys');
const icons = {
  info: '<circle cx="12" cy="12" r="9"/><path d="M12 11v5M12 8v.01"/>',
  fullscreen: '<path d="M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5"/>',
  text: '<path d="M4 8V5h3M17 5h3v3M20 16v3h-3M7 19H4v-3M8 9.5h8M12 9.5V16"/>',
  trash: '<path d="M4 7h16M10 11v6M14 11v6M6 7l1 13h10l1-13M9 7V4h6v3"/>',
  help: '<circle cx="12" cy="12" r="9"/><path d="M9.5 9.5a2.5 2.5 0 1 1 3.5 2.3c-.7.3-1 .8-1 1.7M12 16.5v.01"/>',
};

let swipe = null; // the open PhotoSwipe
let lone = null; // a tile that is not among the grid's: an address opened it
let panel = null;
let textLayer = null;
let status = null;
let isLeaving = false; // the address has changed already
let wanted = null; // the tile whose prompt is copied once its facts have come

const isNarrow = () => innerWidth < 900;
const count = () => (lone ? 1 : grid.total);
const tileAt = (index) => (lone ? lone : grid.tiles[index]);
const tileInFront = () => tileAt(swipe.currIndex);
export const isOpen = () => swipe !== null;

// Open, step or close, as the address says. id: image to show, null for none.
export async function follow(id) {
  if (!id) return leave();
  if (swipe && tileInFront()?.id === id) return undefined;
  let place = findPlace(id);
  if (place >= 0 && swipe && !lone) return swipe.goTo(place);
  leave();
  lone = null;
  if (place < 0) {
    try {
      lone = (await getJson(`ui/images/${id}`)).tile;
    } catch (error) {
      showToast(error.title || say('offline'), { seconds: 10 });
      replace(compose(read().query));
      return undefined;
    }
    if (read().image !== id) return undefined;
    place = 0;
  }
  return open(place);
}

function leave() {
  if (!swipe) return;
  isLeaving = true;
  close();
}

// PhotoSwipe ignores a close until it has opened.
function close() {
  if (swipe.opener.isOpen) swipe.close();
  else swipe.on('openingAnimationEnd', () => swipe?.close());
}

function open(index) {
  isLeaving = false;
  const isCalm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  swipe = new PhotoSwipe({
    index,
    dataSource: [],
    bgOpacity: 1,
    loop: false,
    preload: [1, 2],
    wheelToZoom: true,
    returnFocus: false,
    counter: false, // it writes 20000 for 20,000
    showHideAnimationType: 'none', // keys work from the first moment
    zoomAnimationDuration: isCalm ? 0 : 200,
    // Small images are enlarged to twice their size at most; zooming in shows each pixel as one.
    initialZoomLevel: (level) => Math.min(2, fit(level)),
    secondaryZoomLevel: (level) => (fit(level) < 0.8 ? 1 : Math.min(2, fit(level)) * 2.5),
    maxZoomLevel: (level) => Math.max(4, fit(level) * 4),
    imageClickAction: false,
    bgClickAction: 'close',
    tapAction: 'toggle-controls',
    doubleTapAction: 'zoom',
    closeTitle: say('close'),
    zoomTitle: say('zoom'),
    arrowPrevTitle: say('previous'),
    arrowNextTitle: say('next'),
    errorMsg: say('unreadable'),
    paddingFn: () => ({
      top: 0,
      left: 0,
      right: isPanelOpen() && !isNarrow() ? PANEL : 0,
      bottom: isPanelOpen() && isNarrow() ? innerHeight * SHEET : 0,
    }),
  });
  panel = new FactsPanel({ onTrash: trash, onFilled });
  textLayer = new TextLayer(swipe);
  status = Object.assign(document.createElement('div'), { className: 'sr-only', role: 'status' });
  status.setAttribute('aria-live', 'polite');
  addFilters(swipe);
  addFilms(swipe);
  addButtons(swipe);
  swipe.on('keydown', onKey);
  swipe.on('change', () => onStep());
  swipe.on('zoomPanUpdate', ({ slide }) => slide === swipe?.currSlide && slide.currZoomLevel > slide.zoomLevels.initial * 1.05 && sharpen(slide, true));
  swipe.on('close', onClose);
  swipe.on('destroy', onDestroy);
  document.body.classList.add('viewing');
  document.body.classList.toggle('with-facts', readPanel() ?? !isNarrow());
  swipe.init();
  dress(swipe);
}

const fit = ({ panAreaSize, elementSize }) => Math.min(panAreaSize.x / elementSize.x, panAreaSize.y / elementSize.y);

function addFilters(viewer) {
  viewer.addFilter('numItems', count);
  viewer.addFilter('itemData', (_, index) => {
    const tile = tileAt(index);
    if (!tile) {
      loadFor(viewer, index);
      return { html: `<div class="waiting">${say('loading')}</div>` };
    }
    if (isFilm(tile)) return { type: 'film', tile };
    const preview = getPreview(tile);
    return { src: preview, msrc: `${preview}&small=1`, width: tile.width, height: tile.height, alt: tile.alt, tile };
  });
  viewer.addFilter('placeholderSrc', (source, content) => content.data.msrc ?? source);
}

// Load the image of a slide when the visitor comes near to it.
async function loadFor(viewer, index) {
  if ((await getTile(index)) && viewer === swipe && !viewer.isDestroying) {
    viewer.refreshSlideContent(index);
  }
}

function getPreview(tile) {
  return new URL(`images/${tile.id}/preview?v=${tile.version}`, root).href;
}

// The preview is there at once; the original takes its place when it has come.
function sharpen(slide, isZoomed = false) {
  const { tile } = slide.data;
  const image = slide.content?.element;
  if (!tile?.original || !image || slide.content.isSharp || (tile.size > MAX_BYTES_AT_ONCE && !isZoomed)) return;
  slide.content.isSharp = true;
  const original = new Image();
  original.src = new URL(`images/${tile.id}/original?v=${tile.version}`, root).href;
  original.decode().then(
    () => (image.src = original.src),
    () => {}, // the preview stays
  );
}

// --- around the image -----------------------------------------------------------------------------------------------

function dress(viewer) {
  const { element } = viewer;
  element.setAttribute('aria-modal', 'true');
  forgetRoles(element);
  element.append(panel.element, status);
  moveToasts(element);
  // PhotoSwipe zooms on a double tap itself, after which browsers report a double click, too.
  let pointer = '';
  element.addEventListener('pointerdown', (event) => (pointer = event.pointerType), true);
  element.addEventListener('dblclick', (event) => {
    if (pointer === 'mouse' && event.target.closest('.pswp__img')) viewer.currSlide?.toggleZoom?.(undefined, { x: event.clientX, y: event.clientY });
  });
  setPanel(isPanelOpen(), false);
  name(tileAt(viewer.currIndex));
}

const sayPlace = () => `${(swipe.currIndex + 1).toLocaleString()} / ${count().toLocaleString()}`;

function name(tile) {
  if (!tile) return;
  status.textContent = `${sayPlace()}: ${tile.name}`;
  swipe.element.setAttribute('aria-label', `${say('viewer_label')}: ${tile.name}`);
}

// The facts of the image in front have come.
function onFilled(notice, wasAway) {
  if (!swipe) return;
  showTrashed(notice);
  if (wanted?.id === panel.id) panel.copyPrompt();
  wanted = null;
  if (wasAway) loadAgain();
}

// Load again what failed while the program was away.
function loadAgain() {
  const slides = swipe.mainScroll.itemHolders.map(({ slide }) => slide);
  const failed = slides.filter((slide) => slide?.content.isError() || slide?.content.film?.hasFailed);
  for (const { index } of failed) swipe.refreshSlideContent(index);
  if (!failed.length) textLayer.show(tileInFront());
}

// Over the image: on a phone the facts are hidden at first.
function showTrashed(notice) {
  swipe.element.querySelector(':scope > .in-trash')?.remove();
  if (!notice) return;
  notice.querySelector('button').addEventListener('click', restore);
  swipe.element.append(notice);
  status.textContent += ` ${notice.firstElementChild.textContent}`;
}

function addButtons(viewer) {
  viewer.on('uiRegister', () => {
    const add = (name, title, order, onClick) =>
      viewer.ui.registerElement({
        name,
        title,
        order,
        isButton: true,
        html: { isCustomSVG: true, inner: icons[name], outlineID: `pswp-${name}`, size: 24 },
        onInit: (button) => button.classList.add('line-icon'),
        onClick,
      });
    const showPlace = (counter) => viewer.on('change', () => (counter.textContent = sayPlace()));
    viewer.ui.registerElement({ name: 'place', className: 'pswp__counter', order: 5, onInit: showPlace });
    add('text', `${say('recognized_text')} (t)`, 6, () => textLayer.toggle());
    add('trash', `${say('trash')} (Del)`, 7, (event) => event.detail > 1 || trash()); // a double click is meant for one
    add('help', `${say('keys')} (?)`, 8, showKeys);
    if (document.fullscreenEnabled) add('fullscreen', `${say('fullscreen')} (f)`, 9, toggleFullscreen);
    add('info', `${say('facts')} (i)`, 11, () => setPanel(!isPanelOpen()));
  });
}

function isPanelOpen() {
  return document.body.classList.contains('with-facts');
}

function setPanel(isShown, isKept = true) {
  document.body.classList.toggle('with-facts', isShown);
  panel.element.hidden = !isShown;
  swipe.element.querySelector('.pswp__button--info')?.setAttribute('aria-pressed', isShown);
  if (isKept) keepPanel(isShown);
  swipe.updateSize(true);
}

function readPanel() {
  try {
    const kept = localStorage.getItem('image-search-facts');
    return kept === null || isNarrow() ? null : kept === 'on';
  } catch {
    return null;
  }
}

function keepPanel(isShown) {
  try {
    if (!isNarrow()) localStorage.setItem('image-search-facts', isShown ? 'on' : 'off');
  } catch {
    // Private windows keep nothing; the choice lasts as long as the viewer.
  }
}

function toggleFullscreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else swipe.element.requestFullscreen().catch(() => {});
}

function showKeys() {
  keysDialog.showModal();
}

// --- steps ------------------------------------------------------------------------------------------------------------

let timer = 0;

function onStep() {
  const tile = tileInFront();
  if (!tile) return;
  const { query, image } = read();
  // count: of the tiles that Back and reload find again.
  const kept = lone ? history.state : { ...history.state, count: Math.max(history.state?.count ?? 0, swipe.currIndex + 1) };
  if (image !== tile.id && !isLeaving) replace(compose(query, { image: tile.id }), kept);
  name(tile);
  panel.flush();
  showTrashed(null);
  textLayer.clear();
  clearTimeout(timer);
  const slide = swipe.currSlide;
  // Holding an arrow key down wants neither facts nor originals of what passes by.
  timer = setTimeout(
    () => {
      if (!swipe || swipe.currSlide !== slide) return;
      panel.show(tile);
      textLayer.show(tile);
      sharpen(slide);
    },
    panel.id === null ? 0 : 120,
  );
  if (!lone && swipe.currIndex > grid.tiles.length - 8) loadMore();
}

function onClose() {
  panel.close();
  wanted = null;
  clearTimeout(timer);
  if (isLeaving) return;
  isLeaving = true;
  // Opened from the grid: the entry before this one is the grid. Otherwise there is none to go back to.
  if (history.state?.viewer) history.back();
  else replace(compose(read().query));
}

function onDestroy() {
  const tile = tileInFront();
  moveToasts(document.body);
  document.body.classList.remove('viewing', 'with-facts');
  if (document.fullscreenElement) document.exitFullscreen();
  swipe = null;
  if (tile && !lone) reveal(tile.id);
  lone = null;
}

// --- actions ------------------------------------------------------------------------------------------------------------

async function trash() {
  const tile = tileInFront();
  if (!tile) return;
  if (isTrashed()) {
    showToast(say('in_trash'));
    return;
  }
  try {
    await postJson('ui/trash', { ids: [tile.id] });
  } catch (error) {
    showToast(error.title || say('offline'));
    return;
  }
  const asked = grid.query;
  const index = lone ? -1 : removeTile(tile.id);
  if (!lone && index < 0) return; // by a request before this one
  if (swipe && (lone || !grid.tiles.length)) close();
  else if (swipe) redraw(Math.min(index, count() - 1));
  showToast(say('trashed', { name: tile.name }), { action: say('undo'), onAction: () => undo(tile, index, asked), seconds: 10 });
}

const isTrashed = () => panel.id === tileInFront()?.id && panel.isTrashed;

async function restore() {
  const tile = tileInFront();
  try {
    await postJson('ui/restore', { ids: [tile.id] });
  } catch (error) {
    showToast(error.title || say('offline'));
    return;
  }
  showToast(say('restored_name', { name: tile.name }));
  if (lone) refresh().catch(() => {});
  if (swipe && tileInFront() === tile) {
    swipe.element.focus(); // the button goes
    name(tile);
    panel.show(tile);
  }
}

// index, asked: where the tile was, and in the answer to which question; -1: it was alone.
async function undo(tile, index, asked) {
  try {
    await postJson('ui/restore', { ids: [tile.id] });
  } catch (error) {
    showToast(error.title || say('offline'));
    return;
  }
  const isShown = grid.query === asked;
  if (isShown && index >= 0) insertTile(index, tile);
  if (isShown && index >= 0 && swipe && !lone) redraw(index);
  else if (isShown && index < 0 && !swipe) push(compose(read().query, { image: tile.id }), { viewer: true });
  else showToast(say('restored_name', { name: tile.name }));
}

// After a tile went or came: the slides are other ones now.
function redraw(index) {
  const around = swipe.currIndex;
  for (let place = 0; place < swipe.mainScroll.itemHolders.length; place += 1)
    swipe.contentLoader.removeByIndex(around - 1 + place);
  for (let place = around - 4; place <= around + 4; place += 1) swipe.contentLoader.removeByIndex(place);
  if (index !== swipe.currIndex) swipe.goTo(index);
  for (const { slide } of swipe.mainScroll.itemHolders) if (slide) swipe.refreshSlideContent(slide.index);
  onStep();
}

function onKey(pswpEvent) {
  const event = pswpEvent.originalEvent;
  if (keysDialog.open || event.isComposing) return pswpEvent.preventDefault();
  if (event.target.closest?.('input, textarea')) {
    if (event.key !== 'Escape') pswpEvent.preventDefault();
    return undefined;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return undefined;
  const isStar = /^[0-5]$/.test(event.key);
  const actions = {
    f: toggleFullscreen,
    t: () => textLayer.toggle(),
    i: () => setPanel(!isPanelOpen()),
    Delete: trash,
    c: copyPrompt,
    s: () => findSimilar(),
    '?': showKeys,
  };
  const act = isStar ? () => rate(Number(event.key)) : actions[event.key];
  if (!act) return undefined;
  if (!event.repeat) act();
  event.preventDefault();
  return pswpEvent.preventDefault();
}

// The panel may still tell of the image before, or of none.
function copyPrompt() {
  const tile = tileInFront();
  if (tile && panel.id === tile.id && panel.saved) panel.copyPrompt();
  else wanted = tile;
}

function rate(stars) {
  const tile = tileInFront();
  if (!tile) return;
  if (isTrashed()) {
    showToast(say('in_trash'));
    return;
  }
  panel.rate(tile, stars);
  if (!isPanelOpen()) showToast(stars ? say('stars', { count: stars }) : say('no_stars'), { seconds: 3 });
}

function findSimilar() {
  const tile = tileInFront();
  if (tile) push(composeSimilar(tile.id));
}
