// A film in the viewer: it plays from the moment that was found, above the strip of all its moments.
import { getJson, root } from './api.js';
import { composeSimilar, push } from './address.js';
import { say } from './i18n.js';

const STEP = 1; // milliseconds into a frame, so that rounding does not show the one before
const TYPED = ['INPUT', 'TEXTAREA'];

export const isFilm = (tile) => typeof tile?.frame_ms === 'number';

// 754000: 12:34. Hours where there are any.
export function sayPosition(ms) {
  const seconds = Math.floor(ms / 1000);
  const pad = (number) => String(number).padStart(2, '0');
  const minutes = Math.floor(seconds / 60) % 60;
  const hours = Math.floor(seconds / 3600);
  return hours ? `${hours}:${pad(minutes)}:${pad(seconds % 60)}` : `${minutes}:${pad(seconds % 60)}`;
}

// Let PhotoSwipe show films. Only the film that is in front is fetched; the first plays when a click opened it.
export function addFilms(viewer) {
  let isFirst = navigator.userActivation?.isActive ?? false;
  viewer.on('contentLoad', (event) => {
    const { content } = event;
    if (content.type !== 'film') return;
    event.preventDefault();
    content.film = new Film(content.data.tile);
    content.element = content.film.element;
    content.onLoaded();
  });
  viewer.on('contentActivate', ({ content }) => {
    content.film?.start(isFirst);
    isFirst = false;
  });
  for (const name of ['contentDeactivate', 'contentDestroy']) viewer.on(name, ({ content }) => content.film?.stop());
}

class Film {
  constructor(tile) {
    this.tile = tile;
    this.moments = [];
    this.current = tile;
    this.element = document.createElement('div');
    this.element.className = 'pswp__content film';
    this.video = Object.assign(document.createElement('video'), { controls: true, playsInline: true, preload: 'metadata' });
    this.video.poster = getPreview(tile);
    this.video.setAttribute('aria-label', tile.name);
    this.frame = Object.assign(document.createElement('img'), { alt: tile.alt, hidden: true });
    this.word = Object.assign(document.createElement('p'), { className: 'film-word', hidden: true });
    this.word.setAttribute('role', 'status');
    this.similar = Object.assign(document.createElement('button'), { type: 'button', className: 'film-similar' });
    this.similar.textContent = say('similar_moment');
    this.strip = document.createElement('ol');
    this.strip.className = 'moments';
    this.strip.setAttribute('aria-label', say('moments'));
    const stage = document.createElement('div');
    stage.className = 'film-stage';
    stage.append(this.video, this.frame);
    this.element.append(stage, this.word, this.similar, this.strip);
    // Playing, seeking and scrolling are no gestures of the viewer.
    for (const name of ['wheel', 'pointerdown', 'touchstart', 'touchmove', 'click', 'dblclick'])
      this.element.addEventListener(name, (event) => event.target !== stage && event.stopPropagation());
    this.element.addEventListener('keydown', (event) => this.onKey(event));
    this.video.addEventListener('error', () => this.onError());
    this.video.addEventListener('loadedmetadata', () => this.video.videoWidth || this.onError());
    this.video.addEventListener('timeupdate', () => this.mark(this.find(this.video.currentTime * 1000 + STEP)));
    this.strip.addEventListener('click', (event) => this.onMoment(event.target.closest('button')));
    this.similar.addEventListener('click', () => push(composeSimilar(this.current.id)));
  }

  async start(isPlaying) {
    if (this.isStarted) return;
    this.isStarted = true;
    // The fragment is where a browser begins; it then fetches what it needs from there.
    this.video.src = `${getFilm(this.tile)}#t=${(this.tile.frame_ms + STEP) / 1000}`;
    if (isPlaying) this.video.play().catch(() => {});
    try {
      const { moments } = await getJson(`ui/images/${this.tile.id}/moments`);
      this.moments = moments;
      this.strip.replaceChildren(...moments.map((moment, index) => makeMoment(moment, index)));
      this.mark(this.find(this.tile.frame_ms), true);
    } catch {
      this.strip.hidden = true; // the film plays without it
    }
  }

  stop() {
    if (!this.isStarted) return;
    this.isStarted = false;
    this.video.pause();
    this.video.removeAttribute('src');
    this.video.load(); // ends the request
  }

  find(ms) {
    return this.moments.findLastIndex(({ frame_ms }) => frame_ms <= ms);
  }

  mark(index, isNew = false) {
    const [before, now] = [this.strip.querySelector('[aria-current]'), this.strip.children[index]?.firstElementChild];
    if (!now || (before === now && !isNew)) return;
    before?.removeAttribute('aria-current');
    now.setAttribute('aria-current', 'true');
    this.current = this.moments[index];
    const { left, width } = now.getBoundingClientRect();
    const strip = this.strip.getBoundingClientRect();
    this.strip.scrollBy({ left: left + width / 2 - (strip.left + strip.width / 2), behavior: 'instant' });
  }

  onMoment(button) {
    if (!button) return;
    const index = Number(button.dataset.index);
    const moment = this.moments[index];
    this.mark(index);
    if (!this.frame.hidden) {
      this.frame.src = getPreview(moment);
      return;
    }
    this.video.currentTime = (moment.frame_ms + STEP) / 1000;
    this.video.play().catch(() => {});
  }

  // The arrows and Space belong to the film while it has the focus.
  onKey(event) {
    const isPlayer = event.target === this.video && ['ArrowLeft', 'ArrowRight', 'ArrowUp', 'ArrowDown', ' '].includes(event.key);
    if (isPlayer || TYPED.includes(event.target.tagName)) event.stopPropagation();
  }

  get hasFailed() {
    return this.strip.hidden || !this.frame.hidden;
  }

  // The browser cannot play it, or the file is no longer there: its frames are shown instead.
  async onError() {
    if (!this.isStarted || !this.frame.hidden) return;
    this.frame.src = getPreview(this.current);
    this.frame.hidden = false;
    this.video.hidden = true;
    const answer = await fetch(getFilm(this.tile), { headers: { Range: 'bytes=0-0' } }).catch(() => null);
    this.word.textContent = say(answer?.ok ? 'film_unplayable' : 'film_missing', { name: this.tile.name });
    this.word.hidden = false;
  }
}

const getFilm = ({ id }) => new URL(`images/${id}/film`, root).href;
const getPreview = ({ id, version }) => new URL(`images/${id}/preview?v=${version}`, root).href;

function makeMoment(moment, index) {
  const item = document.createElement('li');
  const button = Object.assign(document.createElement('button'), { type: 'button' });
  button.dataset.index = index;
  const image = Object.assign(document.createElement('img'), { alt: '', loading: 'lazy', src: `${getPreview(moment)}&small=1` });
  const time = document.createElement('span');
  time.textContent = sayPosition(moment.frame_ms);
  button.append(image, time);
  item.append(button);
  return item;
}
