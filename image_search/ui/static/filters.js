// The panel of conditions: each field is a parameter of the address.
import { getInBackground, getJson, postBytes } from './api.js';
import { compose, push, pushWhenShown, read } from './address.js';
import { joinSentences, say } from './i18n.js';
import { moveToasts, showToast } from './toasts.js';

const panel = document.getElementById('filters-panel');
const form = document.getElementById('filters');
const toggle = document.getElementById('filters-toggle');
const narrow = matchMedia('(max-width: 760px)');
const FEW = 8; // values that need no search
const fields = () => [...form.elements].filter(({ name }) => name);

export function start() {
  toggle.addEventListener('click', () => (panel.open ? panel.close() : open()));
  panel.addEventListener('close', () => {
    toggle.setAttribute('aria-expanded', false);
    if (!panel.contains(document.getElementById('toasts'))) return;
    moveToasts(document.body);
    toggle.focus();
  });
  panel.addEventListener('click', ({ target }) => (target === panel || target.closest('.close')) && panel.close());
  narrow.addEventListener('change', () => panel.open && (panel.close(), open()));
  form.addEventListener('change', ({ target }) => {
    if (target.id === 'excluded-file') leaveOut(target);
    else if (target.matches('.pick')) pick(target);
    else if (target.name) apply();
  });
  form.addEventListener('input', ({ target }) => target.matches('.find') && findValues(target));
  form.addEventListener('submit', (event) => (event.preventDefault(), apply()));
  form.addEventListener('reset', () => push(compose(read().query, Object.fromEntries(fields().map(({ name }) => [name, null])))));
}

// On a narrow window a sheet over the images, so that they keep their place; else a panel above them.
function open() {
  if (narrow.matches) {
    panel.showModal();
    moveToasts(panel); // else the sheet lies over them
  } else {
    panel.setAttribute('open', ''); // show() would move the focus
  }
  toggle.setAttribute('aria-expanded', true);
  count();
}

// The sheet stays open over the answers to a question only.
export function closeSheet() {
  if (panel.matches(':modal')) panel.close();
}

// found: how many, as a text.
export function showFound(found) {
  form.querySelector('footer .close').textContent = found ? say('show_found', { found }) : say('close');
}

function apply() {
  const changes = fields().map(({ name, value, defaultValue, type }) => [
    name,
    type === 'range' && value === defaultValue ? null : value.trim(),
  ]);
  const address = compose(read().query, Object.fromEntries(changes));
  if (address !== compose(read().query)) push(address);
}

// Show the address's conditions, and how many there are.
export function fill() {
  const { parameters } = read();
  for (const field of fields()) {
    const value = parameters.get(field.name) ?? '';
    if (field.tagName === 'SELECT' && ![...field.options].some((option) => option.value === value))
      field.add(new Option(value, value));
    field.value = field.type === 'range' && !value ? field.defaultValue : value;
  }
  // As many as there are chips: the kind of date has none, and equal dates have one.
  const isOneDate = parameters.get('from') === parameters.get('to');
  const isPart = (name) => name === 'date' || (name === 'to' && isOneDate);
  const count = fields().filter(({ name }) => parameters.has(name) && !isPart(name)).length;
  toggle.dataset.count = count || '';
}

// The values there are under the other conditions.
export async function count() {
  if (!panel.open) return;
  const { query } = read();
  const facets = await getJson(`ui/facets?${query}`).catch(() => null);
  if (!facets || read().query !== query) return;
  for (const field of form.querySelectorAll('[data-counted]')) {
    const chosen = field.value;
    offer(field, facets[field.name]);
    if (chosen && !facets[field.name].some(({ value }) => value === chosen)) field.add(new Option(chosen, chosen));
    field.value = chosen;
    const facet = field.closest('.facet');
    facet.hidden = field.options.length === 1; // no image has any: no camera among generated images
    const search = facet.querySelector('.find');
    search.value = '';
    search.hidden = facets[field.name].length <= FEW;
    field.removeAttribute('size');
  }
}

function offer(field, choices) {
  const options = choices.map(({ value, label, count: number }) =>
    value === null ? Object.assign(new Option(label), { disabled: true }) : new Option(`${label} (${number.toLocaleString()})`, value),
  );
  field.replaceChildren(field.options[0], ...options);
}

// The values with what is typed inside, of all there are, as an open list.
async function findValues(search) {
  const field = search.closest('.facet').querySelector('select');
  const parameters = new URLSearchParams(read().query);
  const typed = search.value.trim();
  parameters.set('find', typed);
  const found = await getInBackground(`ui/facets/${field.name}?${parameters}`).catch(() => null);
  if (!found || search.value.trim() !== typed) return;
  offer(field, found.choices);
  field.value = read().parameters.get(field.name) ?? '';
  if (typed) field.size = Math.min(Math.max(field.options.length, 2), 8);
  else field.removeAttribute('size');
}

function pick(calendar) {
  if (!calendar.value) return;
  form.elements[calendar.dataset.for].value = calendar.value;
  calendar.value = '';
  apply();
}

async function leaveOut(input) {
  const [file] = input.files;
  input.value = '';
  if (!file) return;
  const from = read();
  try {
    const { token } = await postBytes('ui/query-images', file);
    pushWhenShown({ notpicture: token }, from);
  } catch (error) {
    showToast(joinSentences(error.title || say('offline'), error.hint), { kind: 'problem', seconds: 12 });
  }
}
