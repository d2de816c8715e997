// Requests to this program. Addresses are relative to the page, so that it works below any path.
export const root = new URL('../../../', import.meta.url);

export class ApiError extends Error {
  constructor(status, said) {
    super(said.title ?? '');
    Object.assign(this, { status, title: said.title ?? '', hint: said.hint ?? '', code: said.code ?? '' });
  }
}

async function ask(path, options, { mayLeave = true } = {}) {
  const response = await fetch(new URL(path, root), options);
  // The login has ended: the page itself leads to it.
  if (response.status === 401 && mayLeave) location.reload();
  const said = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response.status, said);
  return said;
}

export const getJson = (path, signal) => ask(path, { signal });

// For requests that a person did not ask for: the page must not be left while they type.
export const getInBackground = (path, signal) => ask(path, { signal }, { mayLeave: false });

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
