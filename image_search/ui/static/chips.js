// The conditions of the address above the grid, each with a cross that takes it out.
import { root } from './api.js';
import { compose, push, read } from './address.js';
import { joinSentences, say } from './i18n.js';

const list = document.getElementById('chips');
let shown = '';
const yesOrNo = { yes: 'has_prompt', no: 'has_no_prompt' };
const named = {
  shape: { landscape: 'landscape', portrait: 'portrait', square: 'square' },
  prompt: yesOrNo,
  text: yesOrNo,
  kind: { image: 'kind_image', frame: 'kind_frame' },
};
// Parameter: key of its name, in the order of the chips.
const labels = {
  from: 'since',
  to: 'until',
  shape: 'orientation',
  type: 'file_type',
  camera: 'camera',
  lens: 'lens',
  keyword: 'keyword',
  model: 'generation_model',
  lora: 'lora',
  generator: 'generator',
  prompt: 'prompt',
  text: 'has_recognized_text',
  kind: 'kind',
  pixels: 'min_pixels',
  rating: 'min_rating',
  folder: 'folder',
};

// ignored: parameters that were not understood. note: a sentence about the answer.
export function show(ignored = [], note = '') {
  const { parameters, query } = read();
  // Drawing the same again would take the focus away.
  const key = JSON.stringify([query, ignored, note]);
  if (key === shown) return;
  shown = key;
  const chips = [];
  const add = (names, text, options = {}) =>
    chips.push(makeChip(query, Object.fromEntries(names.map((name) => [name, null])), text, options));
  const like = parameters.get('like');
  const token = parameters.get('picture');
  if (like) add(['like'], say('similar_to_picture'), { image: `images/${encodeURIComponent(like)}/preview?small=1` });
  else if (token) add(['picture'], say('image_label'), { image: `ui/query-images/${encodeURIComponent(token)}` });
  const left = parameters.get('notpicture');
  if (left) add(['notpicture'], say('excluded_picture'), { image: `ui/query-images/${encodeURIComponent(left)}` });
  for (const name of ['phrase', 'not']) {
    const parts = splitPhrases(parameters.get(name) ?? '');
    for (const part of parts) {
      const rest = parts.filter((other) => other !== part).join(' ');
      const text = sayCondition(say(name === 'not' ? 'excluded_label' : 'required_label'), part.replaceAll('"', ''));
      chips.push(makeChip(query, { [name]: rest || null }, text));
    }
  }
  const [from, to] = [parameters.get('from'), parameters.get('to')];
  const dated = say(parameters.get('date') === 'taken' ? 'taken_at' : 'registered_at');
  const isOneDate = from && from === to;
  if (isOneDate) {
    add(['from', 'to', 'date'], sayCondition(dated, from), { isIgnored: ignored.includes('from') });
  }
  for (const [name, key] of Object.entries(labels)) {
    const value = parameters.get(name);
    if (!value || (isOneDate && (name === 'from' || name === 'to'))) continue;
    const isDate = name === 'from' || name === 'to';
    const text = isDate ? say(`condition_${name}`, { name: dated, value }) : sayCondition(say(key), sayValue(name, value));
    // The kind of date is no condition without a date.
    const isLastDate = isDate && !parameters.get(name === 'from' ? 'to' : 'from');
    add(isLastDate ? [name, 'date'] : [name], text, { isIgnored: ignored.includes(name) });
  }
  if (parameters.get('film')) add(['film'], say('film'), { isIgnored: ignored.includes('film') });
  const hadFocus = list.contains(document.activeElement);
  list.replaceChildren(...chips);
  list.hidden = !chips.length;
  if (hadFocus) focusFirst();
  const texts = [...new Set(ignored.filter((name) => !isOneDate || name !== 'to'))].map((name) =>
    say(name === 'from' || name === 'to' ? 'not_a_date' : 'not_understood', { text: parameters.get(name) ?? '' }),
  );
  document.getElementById('ignored').textContent = joinSentences(...texts, note);
}

function focusFirst() {
  (list.querySelector('button') ?? document.getElementById('heading')).focus();
}

const sayCondition = (name, value) => say('condition', { name, value });

function sayValue(name, value) {
  if (named[name]?.[value]) return say(named[name][value]);
  if (name === 'pixels' && Number(value)) return `${Number(value) / 1e6} MP`;
  if (name === 'rating' && Number(value) >= 1 && Number(value) <= 5) return '★'.repeat(Number(value));
  return value;
}

// "each phrase", and the rest as one (search/query.py splits them so).
function splitPhrases(text) {
  const run = text.replace(/"[^"]*"/g, ' ').replaceAll('"', ' ').trim();
  return [...(run ? [run] : []), ...(text.match(/"[^"]+"/g) ?? [])];
}

// changes: of the address, without the condition.
function makeChip(query, changes, text, { image = '', isIgnored = false } = {}) {
  const chip = document.createElement('li');
  chip.className = isIgnored ? 'chip ignored' : 'chip';
  if (image) chip.append(Object.assign(document.createElement('img'), { src: new URL(image, root).href, alt: '' }));
  chip.append(Object.assign(document.createElement('span'), { textContent: text, title: text }));
  const button = Object.assign(document.createElement('button'), { type: 'button', textContent: '×' });
  button.setAttribute('aria-label', say('remove_condition', { text }));
  button.addEventListener('click', () => {
    push(compose(query, changes));
    focusFirst();
  });
  chip.append(button);
  return chip;
}

// Searches to begin with, where the library holds what they find.
export function showExamples(examples) {
  const place = document.getElementById('examples');
  const links = examples.map((text) => {
    const link = Object.assign(document.createElement('a'), { href: `?${new URLSearchParams({ q: text })}`, textContent: text });
    const item = document.createElement('li');
    item.className = 'chip';
    item.append(link);
    return item;
  });
  place.replaceChildren(...links);
  place.hidden = !links.length;
}
