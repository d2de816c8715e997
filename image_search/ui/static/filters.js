// The panel of conditions: each field is a parameter of the address.
import { getJson } from './api.js';
import { compose, push, read } from './address.js';

const form = document.getElementById('filters');
const toggle = document.getElementById('filters-toggle');
const fields = () => [...form.elements].filter(({ name }) => name);

export function start() {
  toggle.addEventListener('click', () => {
    form.hidden = !form.hidden;
    toggle.setAttribute('aria-expanded', !form.hidden);
    if (!form.hidden) count();
  });
  form.addEventListener('change', apply);
  form.addEventListener('submit', (event) => (event.preventDefault(), apply()));
  form.addEventListener('reset', () => push(compose(read().query, Object.fromEntries(fields().map(({ name }) => [name, null])))));
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
  const count = fields().filter(({ name }) => parameters.has(name)).length;
  toggle.dataset.count = count || '';
}

// The values there are under the other conditions.
export async function count() {
  if (form.hidden) return;
  const { query } = read();
  const facets = await getJson(`ui/facets?${query}`).catch(() => null);
  if (!facets || read().query !== query) return;
  for (const field of form.querySelectorAll('[data-counted]')) {
    const chosen = field.value;
    const options = facets[field.name].map(({ value, label, count: number }) => new Option(`${label} (${number.toLocaleString()})`, value));
    field.replaceChildren(field.options[0], ...options);
    if (chosen && !facets[field.name].some(({ value }) => value === chosen)) field.add(new Option(chosen, chosen));
    field.value = chosen;
  }
}
