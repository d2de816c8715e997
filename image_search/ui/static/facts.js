// The viewer's panel: everything known of an image, and the texts that are kept as soon as a field is left.
import { getJson, isAbort, postJson } from './api.js';
import { copyText } from './clipboard.js';
import { compose } from './address.js';
import { joinSentences, say, sayTime } from './i18n.js';
import { showToast } from './toasts.js';

// Image id to changes that could not be saved yet: they outlive a login that has ended, and a reload.
const DRAFTS = 'image-search-drafts';
const drafts = new Map(readDrafts());

function readDrafts() {
  try {
    return JSON.parse(sessionStorage.getItem(DRAFTS)) ?? [];
  } catch {
    return [];
  }
}

function keepDrafts() {
  try {
    sessionStorage.setItem(DRAFTS, JSON.stringify([...drafts]));
  } catch {
    // They last as long as the page.
  }
}

export class FactsPanel {
  // onFilled: called with the notice of an image in the trash, null for any other.
  constructor({ onTrash, onFilled }) {
    this.element = document.createElement('aside');
    this.element.className = 'facts-panel';
    this.element.setAttribute('aria-label', say('facts'));
    this.id = null;
    this.tile = null;
    this.onTrash = onTrash;
    this.onFilled = onFilled;
    this.isTrashed = false;
    this.element.addEventListener('click', (event) => this.onClick(event));
    this.element.addEventListener('focusout', (event) => this.onLeave(event));
    this.element.addEventListener('keydown', (event) => this.onKey(event));
    for (const name of ['wheel', 'pointerdown', 'touchstart', 'touchmove'])
      this.element.addEventListener(name, (event) => event.stopPropagation());
    this.sent = Promise.all([...drafts.keys()].map((id) => this.send(id)));
  }

  // Show an image. tile: as the grid knows it, with its distance.
  async show(tile) {
    this.flush();
    this.request?.abort();
    if (this.id !== tile.id) this.element.replaceChildren(make('h2', 'file-name', tile.name), make('p', 'none', say('loading')));
    this.id = tile.id;
    this.tile = tile;
    this.request = new AbortController();
    const { signal } = this.request;
    try {
      await this.sent; // else the answer may be older
      this.fill(await getJson(`ui/images/${tile.id}`, signal));
    } catch (error) {
      if (isAbort(error)) return;
      const reason = joinSentences(error.title || say('offline'), error.hint);
      this.element.replaceChildren(make('h2', 'file-name', tile.name), make('p', 'message problem', reason));
    }
  }

  fill({ html, edits }) {
    const fresh = new DOMParser().parseFromString(html, 'text/html');
    this.element.replaceChildren(...fresh.body.childNodes);
    this.element.scrollTop = 0;
    this.saved = edits;
    const draft = drafts.get(this.id);
    this.keywords = [...(draft?.keywords ?? edits.keywords)];
    this.drawKeywords();
    if (draft?.description !== undefined) this.find('[name=description]').value = draft.description;
    if (draft) this.find('.saved').textContent = say('not_saved');
    for (const time of this.element.querySelectorAll('time')) time.textContent = sayTime(new Date(time.dateTime));
    this.fillHit();
    const notice = this.find('.in-trash');
    this.isTrashed = notice !== null;
    this.onFilled(notice);
  }

  // How the image was found is known to the grid only.
  fillHit() {
    const { distance, relevance, found_by, found_in_text } = this.tile;
    const set = (name, text) => {
      const place = this.find(`[data-hit=${name}]`);
      place.textContent = text;
      place.parentElement.hidden = false;
    };
    if (distance !== null) set('distance', distance.toFixed(6));
    if (relevance !== null) set('relevance', `${Math.round(relevance * 100)}%`);
    if (found_by) set('found_by', say(found_in_text ? 'found_in_text' : `found_by_${found_by}`));
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  // Keep what was typed and not yet left.
  flush() {
    if (this.element.contains(document.activeElement)) this.keepField(document.activeElement);
  }

  onLeave(event) {
    this.keepField(event.target);
  }

  keepField(field) {
    if (!this.saved) return;
    if (field.name === 'description' && field.value.trim() !== this.saved.description.trim())
      this.save({ description: field.value });
    if (field.name === 'keyword' && field.value.trim()) this.addKeywords(field);
  }

  addKeywords(field) {
    const words = field.value.split(/[,、，;；\n]/).map((word) => word.trim()).filter(Boolean);
    field.value = '';
    this.setKeywords([...new Set([...this.keywords, ...words])]);
  }

  setKeywords(words) {
    this.keywords = words;
    this.drawKeywords();
    this.save({ keywords: words });
  }

  drawKeywords() {
    const place = this.find('.keywords');
    for (const chip of place.querySelectorAll('.keyword')) chip.remove();
    for (const word of this.keywords) {
      const chip = document.createElement('span');
      chip.className = 'keyword';
      const link = Object.assign(document.createElement('a'), { href: compose('', { keyword: word }), textContent: word });
      const remove = Object.assign(document.createElement('button'), { type: 'button', textContent: '×' });
      remove.setAttribute('aria-label', say('remove_keyword', { word }));
      remove.addEventListener('click', () => {
        this.setKeywords(this.keywords.filter((other) => other !== word));
        this.find('[name=keyword]').focus();
      });
      chip.append(link, remove);
      place.insertBefore(chip, place.querySelector('input'));
    }
  }

  save(changes) {
    drafts.set(this.id, { ...drafts.get(this.id), ...changes });
    if (changes.description !== undefined) this.saved.description = changes.description;
    return this.send(this.id);
  }

  // Also for an image that is no longer shown.
  async send(id) {
    const draft = drafts.get(id);
    if (!draft) return;
    keepDrafts();
    const findSaved = () => (id === this.id ? this.find('.saved') : null);
    try {
      const edits = await postJson(`ui/images/${id}/edits`, draft);
      if (drafts.get(id) !== draft) return; // more was typed, and is sent
      drafts.delete(id);
      keepDrafts();
      if (findSaved()) this.showSaved(edits, say('saved'));
    } catch (error) {
      if (findSaved()) findSaved().textContent = say('not_saved');
      const again = () => this.send(id);
      const isGone = error.code === 'image_gone'; // to the trash, in another tab
      showToast(`${say('not_saved')} ${error.title ?? ''}`, {
        action: say(isGone ? 'restore' : 'try_again'),
        onAction: () => (isGone ? postJson('ui/restore', { ids: [id] }).finally(again) : again()),
        seconds: 12,
      });
    }
  }

  showSaved(edits, text) {
    this.saved = edits;
    this.find('.saved').textContent = text;
    for (const button of this.element.querySelectorAll('.revert'))
      button.hidden = !edits.edited.includes(button.dataset.revert);
    this.showRating(edits.rating);
    if (this.tile) this.tile.rating = edits.rating;
  }

  showRating(rating) {
    for (const star of this.element.querySelectorAll('[data-rating]')) {
      star.classList.toggle('on', Number(star.dataset.rating) <= rating);
      star.setAttribute('aria-checked', Number(star.dataset.rating) === rating);
    }
  }

  rate(rating) {
    this.showRating(rating);
    return this.save({ rating });
  }

  async revert(name) {
    drafts.delete(this.id);
    keepDrafts();
    const edits = await postJson(`ui/images/${this.id}/edits`, { revert: [name] });
    this.find('[name=description]').value = edits.description;
    this.keywords = [...edits.keywords];
    this.drawKeywords();
    this.showSaved(edits, say('saved'));
  }

  copyPrompt() {
    const text = this.find('[data-text=prompt]')?.textContent;
    if (text) copyText(text, this.element);
    else showToast(say('no_prompt'));
  }

  onClick({ target }) {
    const copy = target.closest('.copy');
    const star = target.closest('[data-rating]');
    const revert = target.closest('[data-revert]');
    if (copy) copyText(this.find(`[data-text=${copy.dataset.copy}]`).textContent, this.element);
    else if (star) this.rate(Number(star.dataset.rating) === this.saved.rating ? 0 : Number(star.dataset.rating));
    else if (revert) this.revert(revert.dataset.revert).catch((error) => showToast(error.title || say('offline')));
    else if (target.closest('[data-action=trash]')) this.onTrash();
  }

  onKey(event) {
    const { target, key } = event;
    if (target.name !== 'keyword' || event.isComposing) return;
    if (key === 'Enter' || key === ',' || key === '、') {
      event.preventDefault();
      this.addKeywords(target);
    } else if (key === 'Backspace' && !target.value && this.keywords.length) {
      this.setKeywords(this.keywords.slice(0, -1));
    }
  }
}

function make(tag, className, textContent) {
  return Object.assign(document.createElement(tag), { className, textContent });
}
