// The address is the state of the page: the question, the open image (image=) and the tab (tab=).
const PLACES = ['image', 'tab'];

let searched = ''; // the question of the search, which stays as it is behind the library
let waiting = null; // { query, changes, over }

export function read(search = location.search) {
  let parameters = new URLSearchParams(search);
  const given = Number(parameters.get('image'));
  const image = Number.isSafeInteger(given) && given > 0 ? given : null;
  const tab = parameters.get('tab') === 'library' ? 'library' : 'search';
  for (const name of PLACES) parameters.delete(name);
  for (const [name, value] of [...parameters]) if (!value.trim() || name.startsWith('__')) parameters.delete(name);
  if (tab === 'library') parameters = new URLSearchParams(searched);
  return { parameters, query: parameters.toString(), image, tab };
}

// An address on this page. changes: parameters to set; null takes one out.
export function compose(query, changes = {}) {
  const parameters = new URLSearchParams(query);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === undefined || value === '') parameters.delete(name);
    else parameters.set(name, value);
  }
  const text = parameters.toString();
  return text ? `?${text}` : location.pathname;
}

// The address of images similar to one, under the conditions there are.
export function composeSimilar(id) {
  return compose(read().query, { q: null, picture: null, weight: null, order: null, like: id });
}

// Change the question, but call no visitor back who has gone on meanwhile: to the library, or into the viewer.
// from: the address they were asked at, as read.
export function pushWhenShown(changes, from) {
  waiting = { query: read().query, changes, over: from.image };
  resume();
}

// Follow the address. A change that waits for the search is made once the search is shown.
export function resume() {
  const { query, image, tab } = read();
  if (tab !== 'search') return;
  searched = query;
  if (!waiting || (image && image !== waiting.over)) return;
  const { changes, query: changed } = waiting;
  waiting = null;
  if (changed === query) push(compose(query, changes)); // else another question was asked
}

let listener = () => {};

export function onChange(call) {
  listener = call;
  addEventListener('popstate', () => listener('back'));
}

export function push(address, state = {}) {
  // A step belongs to its search: it would be one more to go back from the next.
  const isLeft = isOnStep() && read(new URL(address, document.baseURI).search).query !== read().query;
  if (isLeft) history.replaceState(state, '', address);
  else history.pushState(state, '', address);
  listener('push');
}

// An entry of the history for something on the page that Back ends, at the address there is.
export function addStep() {
  history.pushState({ ...history.state, step: true }, '');
}

export const isOnStep = () => Boolean(history.state?.step);

export function replace(address, state = history.state) {
  history.replaceState(state, '', address);
}

// Kept with the history entry, so that Back and reload find it again.
export function keep(state) {
  history.replaceState({ ...history.state, ...state }, '');
}
