// Requests to this program, and the login where it has ended. Addresses are relative to the page, so that it works below any path.
import { say } from './i18n.js';

export const root = new URL('../../../', import.meta.url);

export class ApiError extends Error {
  constructor(response, said) {
    const title = response.status === 401 ? say('login_needed') : (said.title ?? '');
    super(title);
    const wait = Number(response.headers.get('Retry-After')); // seconds
    Object.assign(this, { status: response.status, title, hint: said.hint ?? '', code: said.code ?? '', wait });
  }
}

async function ask(path, options, { mayAsk = true } = {}) {
  const started = performance.now();
  let response = await fetch(new URL(path, root), options);
  if (response.status === 401 && mayAsk && (await logIn(started))) response = await fetch(new URL(path, root), options);
  const said = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response, said);
  return said;
}

// The login has ended: it is asked for over the page, which stays as it is with all that was typed and chosen.
// Returns whether it goes on. One answer is for all requests that were sent before it.
let login = null;
let last = { time: 0, isIn: false };

async function logIn(started) {
  if (started < last.time) return last.isIn;
  login ??= askForPassword().then((isIn) => {
    last = { time: performance.now(), isIn };
    login = null;
    return isIn;
  });
  return login;
}

function askForPassword() {
  const dialog = document.getElementById('login-dialog');
  const form = dialog.querySelector('form');
  const problem = dialog.querySelector('[role=alert]');
  form.reset();
  problem.textContent = '';
  dialog.returnValue = '';
  // The viewer below takes keys as its own.
  dialog.onkeydown = (event) => event.stopPropagation();
  form.onsubmit = async (event) => {
    event.preventDefault();
    problem.textContent = await sendPassword(form.elements.password.value);
    if (!problem.textContent) dialog.close('in');
    else form.elements.password.select();
  };
  dialog.querySelector('[type=button]').onclick = () => dialog.close();
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      const isIn = dialog.returnValue === 'in';
      if (isIn) loadImagesAgain();
      resolve(isIn);
    };
  });
}

// Returns what is wrong, '' for nothing.
async function sendPassword(password) {
  const options = { method: 'POST', headers: { Accept: 'application/json' }, body: new URLSearchParams({ password }) };
  const response = await fetch(new URL('login', root), options).catch(() => null);
  if (response?.ok) return '';
  return say({ 401: 'password_wrong', 429: 'password_wait' }[response?.status] ?? 'offline');
}

// Those that were refused meanwhile.
function loadImagesAgain() {
  for (const image of document.images) if (image.complete && image.src && !image.naturalWidth) image.src = image.src;
}

export const getJson = (path, signal) => ask(path, { signal });

// For requests that a person did not ask for: no login is asked for while they type.
export const getInBackground = (path, signal) => ask(path, { signal }, { mayAsk: false });

export function postJson(path, body) {
  const headers = { 'Content-Type': 'application/json' };
  const text = JSON.stringify(body);
  // keepalive: what was typed is saved even if the page is left. Browsers refuse it for more than 64 KiB.
  return ask(path, { method: 'POST', headers, body: text, keepalive: text.length < 60_000 });
}

export function postBytes(path, body) {
  return ask(path, { method: 'POST', headers: { 'Content-Type': 'application/octet-stream' }, body });
}

export const isAbort = (error) => error.name === 'AbortError';
