// The viewer's panel: everything known of an image, and the texts that are kept as soon as a field is left.
import { getJson, isAbort } from './api.js';
import { copyText } from './clipboard.js';
import { compose } from './address.js';
import { getDraft, onAnswer, save, whenSent } from './drafts.js';
import { joinSentences, say, sayTime } from './i18n.js';
import { showToast } from './toasts.js';

const RETRY = 2000; // milliseconds

export class FactsPanel {
  // onFilled: called with the notice of an image in the trash, null for any other, and whether the program was away.
  constructor({ onTrash, onFilled }) {
    this.element = document.createElement('aside');
    this.element.className = 'facts-panel';
    this.element.setAttribute('aria-label', say('facts'));
    this.id = null;
    this.tile = null;
    this.saved = null; // the edits of the image as they were last heard of
    this.onTrash = onTrash;
    this.onFilled = onFilled;
    this.isTrashed = false;
    this.isAway = false; // the program, at the last try
    this.element.addEventListener('click', (event) => this.onClick(event));
    this.element.addEventListener('focusout', (event) => this.keepField(event.target));
    this.element.addEventListener('keydown', (event) => this.onKey(event));
    for (const name of ['wheel', 'pointerdown', 'touchstart', 'touchmove'])
      this.element.addEventListener(name, (event) => event.stopPropagation());
    onAnswer((id, edits) => id === this.id && this.onAnswer(edits));
  }

  // Show an image. tile: as the grid knows it, with its distance.
  async show(tile) {
    this.flush();
    this.request?.abort();
    clearTimeout(this.timer);
    if (this.id !== tile.id) {
      this.element.replaceChildren(make('h2', 'file-name', tile.name), make('p', 'none', say('loading')));
      this.saved = null;
      this.isTrashed = false;
    }
    this.id = tile.id;
    this.tile = tile;
    this.request = new AbortController();
    const { signal } = this.request;
    try {
      await whenSent(tile.id); // else the answer may be older
      if (signal.aborted) return;
      this.answer = null;
      const facts = await getJson(`ui/images/${tile.id}`, signal);
      if (!signal.aborted) this.fill({ ...facts, edits: this.answer ?? facts.edits });
    } catch (error) {
      if (isAbort(error)) return;
      const reason = joinSentences(error.title || say('offline'), error.hint);
      this.element.replaceChildren(make('h2', 'file-name', tile.name), make('p', 'message problem', reason));
      this.saved = null;
      this.isAway = !error.status || error.status >= 500;
      if (this.isAway) this.timer = setTimeout(() => this.show(tile), RETRY); // until database and program are back
    }
  }

  // Ask for nothing any more.
  close() {
    this.flush();
    this.request?.abort();
    clearTimeout(this.timer);
  }

  fill({ html, edits }) {
    const fresh = new DOMParser().parseFromString(html, 'text/html');
    this.element.replaceChildren(...fresh.body.childNodes);
    this.element.scrollTop = 0;
    this.showEdits(edits, Object.keys(getDraft(this.id)).length && !whenSent(this.id) ? say('not_saved') : '');
    for (const time of this.element.querySelectorAll('time')) time.textContent = sayTime(new Date(time.dateTime));
    this.fillHit();
    const notice = this.find('.in-trash');
    this.isTrashed = notice !== null;
    const wasAway = this.isAway;
    this.isAway = false;
    this.onFilled(notice, wasAway);
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

  keepField(field) {
    if (!this.saved) return;
    if (field.name === 'description') {
      if (field.value.trim() !== field.defaultValue.trim()) this.save({ description: (field.defaultValue = field.value) });
      else this.showDescription(field);
    }
    if (field.name === 'keyword' && field.value.trim()) this.addKeywords(field);
  }

  addKeywords(field) {
    const words = field.value.split(/[,、，;；\n]/).map((word) => word.trim()).filter(Boolean);
    field.value = '';
    const added = words.filter((word) => !this.keywords.includes(word));
    if (added.length) this.save({ add_keywords: added });
  }

  removeKeyword(word) {
    this.save({ remove_keywords: [word] });
    this.find('[name=keyword]').focus();
  }

  // As they are saved, with what is on its way.
  get keywords() {
    const { add_keywords: added = [], remove_keywords: removed = [] } = getDraft(this.id);
    return [...new Set([...this.saved.keywords, ...added])].filter((word) => !removed.includes(word));
  }

  drawKeywords() {
    const place = this.find('.keywords');
    const chips = [...place.querySelectorAll('.keyword')];
    const words = this.keywords;
    if (chips.length === words.length && chips.every((chip, index) => chip.dataset.word === words[index])) return;
    const hadFocus = chips.some((chip) => chip.contains(document.activeElement));
    for (const chip of chips) chip.remove();
    for (const word of words) {
      const chip = document.createElement('span');
      chip.className = 'keyword';
      chip.dataset.word = word;
      const link = Object.assign(document.createElement('a'), { href: compose('', { keyword: word }), textContent: word });
      const remove = Object.assign(document.createElement('button'), { type: 'button', textContent: '×' });
      remove.setAttribute('aria-label', say('remove_keyword', { word }));
      remove.addEventListener('click', () => this.removeKeyword(word));
      chip.append(link, remove);
      place.insertBefore(chip, place.querySelector('input'));
    }
    if (hadFocus) place.querySelector('input').focus();
  }

  save(changes) {
    const done = save(this.id, changes);
    if (this.saved) this.showEdits(this.saved);
    return done;
  }

  // tile: the image in front, whose facts may not have come yet.
  rate(tile, rating) {
    return tile.id === this.id ? this.save({ rating }) : save(tile.id, { rating });
  }

  onAnswer(edits) {
    if (edits) this.answer = edits;
    if (!this.saved) return;
    if (edits) this.showEdits(edits, say('saved'));
    else this.find('.saved').textContent = say('not_saved');
  }

  // Show the edits as they are saved, with what is on its way. A field that was typed in stays as it is.
  showEdits(edits, text = null) {
    this.saved = edits;
    if (text !== null) this.find('.saved').textContent = text;
    for (const button of this.element.querySelectorAll('.revert'))
      button.hidden = !edits.edited.includes(button.dataset.revert);
    const field = this.find('[name=description]');
    if (field.value === field.defaultValue) this.showDescription(field);
    this.drawKeywords();
    const rating = getDraft(this.id).rating ?? edits.rating;
    for (const star of this.element.querySelectorAll('[data-rating]')) {
      star.classList.toggle('on', Number(star.dataset.rating) <= rating);
      star.setAttribute('aria-checked', Number(star.dataset.rating) === rating);
    }
  }

  showDescription(field) {
    const text = (getDraft(this.id).description ?? this.saved.description).replace(/\r\n?/g, '\n'); // as fields have them
    if (field.value !== text) field.value = field.defaultValue = text;
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
    else if (star) this.save({ rating: Number(star.dataset.rating) === this.saved.rating ? 0 : Number(star.dataset.rating) });
    else if (revert) this.save({ revert: [revert.dataset.revert] });
    else if (target.closest('[data-action=trash]')) this.onTrash();
  }

  onKey(event) {
    const { target, key } = event;
    if (target.name !== 'keyword' || event.isComposing || !this.saved) return;
    if (key === 'Enter' || key === ',' || key === '、') {
      event.preventDefault();
      this.addKeywords(target);
    } else if (key === 'Backspace' && !event.repeat && !target.value && this.keywords.length) {
      this.removeKeyword(this.keywords.at(-1)); // one for each press: a key held to empty the field goes no further
    }
  }
}

function make(tag, className, textContent) {
  return Object.assign(document.createElement(tag), { className, textContent });
}
