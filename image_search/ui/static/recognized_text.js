// Text inside the image of the viewer: boxes that follow zoom and pan, with words to be selected, found and copied.
import { read } from './address.js';
import { getJson, isAbort } from './api.js';
import { copyText } from './clipboard.js';
import { say } from './i18n.js';
import { showToast } from './toasts.js';

const KEPT = 'image-search-text';
const TALL = 1.5; // a box this many times as high as wide holds a vertical line

export class TextLayer {
  // viewer: a PhotoSwipe that has not been opened yet.
  constructor(viewer) {
    this.viewer = viewer;
    this.layer = null;
    this.slide = null;
    this.text = '';
    this.isShown = readKept();
    this.copy = Object.assign(document.createElement('button'), { type: 'button', className: 'button copy-text', textContent: say('copy_all_text') });
    this.copy.addEventListener('click', () => copyText(this.text, viewer.element));
    viewer.on('imageSizeChange', ({ slide, width, height }) => slide === this.slide && this.resize(width, height));
  }

  // Show the text of the image in front. tile: as the grid knows it.
  async show(tile) {
    this.clear();
    this.button.hidden = !tile.text;
    if (!tile.text) return;
    const slide = this.viewer.currSlide;
    this.request = new AbortController();
    try {
      const { lines } = await getJson(`ui/images/${tile.id}/text?${read().query}`, this.request.signal);
      if (slide === this.viewer.currSlide && !this.viewer.isDestroying) this.draw(slide, lines);
    } catch (error) {
      if (!isAbort(error)) showToast(error.title || say('offline'));
    }
  }

  clear() {
    this.request?.abort();
    this.layer?.remove();
    this.copy.remove();
    this.layer = this.slide = null;
    this.update();
  }

  toggle() {
    if (this.button.hidden) return;
    this.isShown = !this.isShown;
    keep(this.isShown);
    this.update();
  }

  get button() {
    return this.viewer.element.querySelector('.pswp__button--text');
  }

  update() {
    this.button.setAttribute('aria-pressed', this.isShown);
    this.layer?.classList.toggle('shown', this.isShown);
    this.copy.hidden = !this.isShown;
  }

  draw(slide, lines) {
    this.slide = slide;
    this.text = lines.map(({ pieces }) => pieces.map(([text]) => text).join('')).join('\n');
    this.layer = Object.assign(document.createElement('div'), { className: 'text-layer' });
    this.layer.setAttribute('role', 'group');
    this.layer.setAttribute('aria-label', say('recognized_text'));
    const nodes = lines.map((line) => makeLine(line, slide.width / slide.height));
    this.layer.append(...nodes);
    // A press on a word selects it; PhotoSwipe would drag the image.
    for (const name of ['pointerdown', 'mousedown', 'touchstart', 'click'])
      this.layer.addEventListener(name, (event) => event.stopPropagation());
    slide.container.append(this.layer);
    const scale = slide.currentResolution || slide.zoomLevels.initial;
    this.resize(slide.width * scale, slide.height * scale);
    for (const node of nodes) fit(node);
    this.viewer.element.append(this.copy);
    this.update();
  }

  resize(width, height) {
    Object.assign(this.layer.style, { width: `${width}px`, height: `${height}px` });
  }
}

function makeLine({ box: [left, top, right, bottom], pieces }, aspect) {
  const node = document.createElement('div');
  const words = document.createElement('span');
  const isVertical = (bottom - top) / aspect > TALL * (right - left);
  node.className = isVertical ? 'line vertical' : 'line';
  Object.assign(node.style, {
    left: `${left * 100}%`,
    top: `${top * 100}%`,
    width: `${(right - left) * 100}%`,
    height: `${(bottom - top) * 100}%`,
    fontSize: isVertical ? `${(right - left) * 80}cqw` : `${(bottom - top) * 80}cqh`,
  });
  for (const [text, isAsked] of pieces)
    words.append(isAsked ? Object.assign(document.createElement('mark'), { textContent: text }) : text);
  node.append(words);
  return node;
}

// Stretches the words of a line over its box, whatever the font.
function fit(node) {
  const words = node.firstElementChild;
  const [box, text] = [node.getBoundingClientRect(), words.getBoundingClientRect()];
  if (!text.width || !text.height) return;
  words.style.transform = node.classList.contains('vertical')
    ? `scale(1, ${box.height / text.height})`
    : `scale(${box.width / text.width}, 1)`;
}

function readKept() {
  try {
    return localStorage.getItem(KEPT) === 'on';
  } catch {
    return false;
  }
}

function keep(isShown) {
  try {
    localStorage.setItem(KEPT, isShown ? 'on' : 'off');
  } catch {
    // Private windows keep nothing; the choice lasts as long as the viewer.
  }
}
