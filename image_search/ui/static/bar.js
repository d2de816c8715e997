// The fields of a question. They are Gradio's components; its handlers dispatch events at the document.
import { getInBackground, getJson, postJson, root } from './api.js';
import { compose, push, pushWhenShown, read, replace } from './address.js';
import { joinSentences, say } from './i18n.js';
import { remember } from './suggest.js';
import { showToast } from './toasts.js';

const getBox = () => document.querySelector('#text textarea, #text input');
let isReady = false; // Gradio has drawn its components
let hasTyped = false;
let shown = ''; // address of the image in its box

// ask: called to ask the same question again.
export function start(ask) {
  document.addEventListener('page:ready', () => {
    isReady = true;
    fill();
    // Gradio comes after the tiles: a tile or the viewer may have the focus by now. On a phone a keyboard would open.
    if (document.activeElement === document.body && !matchMedia('(hover: none)').matches) getBox()?.focus();
  });
  // The box, not Gradio's copy of it, which lacks what was typed before Gradio listened.
  document.addEventListener('page:search', ({ detail }) => search((getBox()?.value ?? detail.text ?? '').trim(), ask));
  document.addEventListener('page:clear', () => (location.search ? push(compose('')) : ask()));
  document.addEventListener('page:image', ({ detail }) => searchWith(detail.file));
  document.addEventListener('page:image-removed', () => {
    shown = '';
    push(compose(read().query, { picture: null, like: null }));
  });
  document.addEventListener('input', ({ target }) => (hasTyped ||= target === getBox()));
  document.addEventListener('paste', onPaste);
  startTakingImages();
  startDropping();
  // A key held down is one question.
  document.addEventListener('keydown', onHeldKey, true);
}

// Words that may hold a condition: -this, "this", camera:this, 2019-08, 2019年8月. The server decides which do.
const MAY_HOLD_CONDITION = /[-－−"“”＂:：]|[\d０-９]{4}[年/／]/;
let asked = 0;

async function search(text, ask) {
  const number = (asked += 1);
  const from = read();
  const changes = await understand(text);
  if (number !== asked) return; // another question was asked meanwhile
  const { query, tab, image } = read();
  const address = compose(query, changes);
  if (tab !== 'search') return pushWhenShown(changes, from);
  if (compose(query) === address && !image) ask();
  else push(address);
  remember();
  // The box keeps the words only: the conditions are chips now. A page that is still opening fills it when it is ready.
  if (getBox()?.value.trim() === text) hasTyped = false;
  if (changes.q !== text) fill({ isOpening: false });
}

async function understand(text) {
  if (!MAY_HOLD_CONDITION.test(text)) return { q: text };
  const parameters = new URLSearchParams(read().query);
  parameters.set('typed', text);
  const found = await getInBackground(`ui/typed?${parameters}`).catch(() => null);
  return found?.changes ?? { q: text };
}

// Conditions in an address that was written by hand become chips, too.
export async function normalize() {
  const { parameters, query } = read();
  const text = parameters.get('q') ?? '';
  const changes = await understand(text);
  if (changes.q !== text && read().query === query) replace(compose(location.search.slice(1), changes));
}

// Show the address's question in the fields. Words that are being typed stay while the page opens.
export function fill({ isOpening = true } = {}) {
  if (!isReady) return;
  const { parameters } = read();
  const box = getBox();
  const text = isOpening && hasTyped ? box.value : (parameters.get('q') ?? '');
  hasTyped = false;
  const [token, like] = [parameters.get('picture'), parameters.get('like')];
  const path = like ? `images/${like}/preview?small=1` : token ? `ui/query-images/${token}` : '';
  if (path === shown && text === box?.value) return;
  shown = path;
  const url = path && new URL(path, root).href;
  const value = url ? { path: url, url, orig_name: 'picture.webp', meta: { _type: 'gradio.FileData' } } : null;
  window.fillFields(text, value);
}

async function searchWith(file) {
  if (!file?.path) return;
  const from = read();
  try {
    const { token } = await postJson('ui/query-images', { path: file.path, name: file.orig_name ?? '' });
    const changes = { picture: token, like: null, q: getBox().value.trim() };
    shown = `ui/query-images/${token}`;
    pushWhenShown(changes, from);
  } catch (error) {
    showToast(joinSentences(error.title || say('offline'), error.hint), { kind: 'problem', seconds: 12 });
    shown = '?';
    fill({ isOpening: false });
  }
}

// --- pasting and dropping -----------------------------------------------------------------------------------------------

// Gradio's box takes only files that the browser calls images, which HEIC, JPEG XL and RAW often are not.
// Other files get a type that it takes; the server decides by content.
const isCalledImage = (file) => file.type.startsWith('image/');
const asImage = (file) => new File([file], file.name, { type: 'image/x-unknown' });

let isGiving = false;

// Gradio sends the file, and knows neither of a login that has ended nor of a program that is away: a request goes first.
async function give(box, files) {
  try {
    await getJson('ui/progress');
  } catch (error) {
    return showToast(error.title || say('offline'), { kind: 'problem', seconds: 12 });
  }
  const transfer = new DataTransfer();
  const isQueryImage = box.id === 'picture';
  for (const file of files) transfer.items.add(isQueryImage && !isCalledImage(file) ? asImage(file) : file);
  const input = box.querySelector('input[type=file]');
  input.files = transfer.files;
  isGiving = true;
  input.dispatchEvent(new Event('change', { bubbles: true }));
  isGiving = false;
  return undefined;
}

// Search with a file, or, on the library page, add files.
function take(files) {
  // The images are there before Gradio's box is.
  if (!isReady) return document.addEventListener('page:ready', () => take(files), { once: true });
  const panel = document.body.dataset.tab === 'library' && document.querySelector('#add:has(input[type=file])');
  if (panel) return give(panel, files);
  const box = document.querySelector('#picture');
  if (box.querySelector('input[type=file]')) return give(box, files.slice(0, 1));
  // Remove the image in the box first: it takes one.
  new MutationObserver((_, observer) => {
    if (!box.querySelector('input[type=file]')) return;
    observer.disconnect();
    give(box, files.slice(0, 1));
  }).observe(box, { childList: true, subtree: true });
  return window.fillFields(getBox().value, null);
}

function startTakingImages() {
  const findBox = ({ target }) => target.closest?.('#picture');
  document.addEventListener('click', (event) => findBox(event)?.querySelector('input[type=file]')?.removeAttribute('accept'), true);
  document.addEventListener(
    'change',
    (event) => {
      if (isGiving || !findBox(event) || !event.target.files?.length) return;
      event.stopImmediatePropagation();
      give(findBox(event), [...event.target.files]);
    },
    true,
  );
  document.addEventListener(
    'drop',
    (event) => {
      if (!findBox(event) || !event.dataTransfer?.files.length) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      document.getElementById('drop-overlay').hidden = true;
      take([...event.dataTransfer.files]);
    },
    true,
  );
}

function onPaste(event) {
  const files = [...event.clipboardData.files];
  if (!files.length || document.body.classList.contains('viewing')) return;
  event.preventDefault();
  take(files);
}

function startDropping() {
  const overlay = document.getElementById('drop-overlay');
  const hasFiles = (event) => event.dataTransfer?.types.includes('Files');
  let timer = 0;
  const show = (isShown) => {
    overlay.hidden = !isShown;
    clearTimeout(timer);
    // A drag that ends elsewhere is not always reported; one that goes on is, several times a second.
    if (isShown) timer = setTimeout(show, 1500, false);
  };
  for (const kind of ['dragenter', 'dragover'])
    document.addEventListener(kind, (event) => {
      event.preventDefault(); // or a browser leaves the page for an image that misses its box
      if (hasFiles(event)) show(true);
    });
  document.addEventListener('dragleave', (event) => event.relatedTarget || show(false));
  document.addEventListener('drop', () => show(false), true);
  document.addEventListener('drop', (event) => {
    if (event.defaultPrevented) return;
    event.preventDefault();
    const files = [...event.dataTransfer.files];
    if (files.length) take(files);
  });
}

function onHeldKey(event) {
  if (event.repeat && event.key === 'Enter' && event.target === getBox()) event.preventDefault();
}
