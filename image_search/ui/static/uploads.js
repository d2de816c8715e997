// Files chosen to be added: sent one by one, so that each is safe as soon as its bytes have arrived.
import { postBytes, postJson } from './api.js';
import { say } from './i18n.js';

const field = document.querySelector('#add input[type=file]');
const status = document.getElementById('sending');
const RETRY = 2000; // milliseconds
const LARGE = 64 * 2 ** 20; // bytes
const ATTEMPTS = 30;
let sending = 0; // files that have not arrived

// onBegin: called when the program has a new job.
export function start(onBegin) {
  field.addEventListener('change', async () => {
    const files = [...field.files];
    field.value = '';
    if (!files.length) return;
    sending += files.length;
    const problems = await send(files, onBegin).catch((error) => [error.title || say('offline')]);
    sending -= files.length;
    status.textContent = [say('upload_received', { count: files.length - problems.length }), ...problems].join(' ');
  });
  // Only what is still on its way would be lost.
  addEventListener('beforeunload', (event) => {
    if (sending) event.preventDefault();
  });
}

async function send(files, onBegin) {
  const { batch } = await attempt(() => postJson('ui/library/uploads', { names: files.map(({ name }) => name) }));
  onBegin();
  const problems = [];
  for (const [number, file] of files.entries()) {
    status.textContent = say('upload_sending', { done: number, total: files.length });
    try {
      await attempt(() => sendBytes(`ui/library/uploads/${batch}/${number}`, file));
    } catch (error) {
      if (error.status === 404) return [...problems, ...(await send(files.slice(number), onBegin))]; // the batch is over
      problems.push(`${file.name}: ${error.title || say('upload_unreadable')}`);
    }
  }
  return problems;
}

async function sendBytes(path, file) {
  try {
    await postBytes(path, file.size > LARGE ? file : await file.arrayBuffer()); // a film is never whole in memory
  } catch (error) {
    if (error.status === 413) error.title = say('upload_too_large');
    throw error;
  }
}

// Again while the program is away or asks for patience.
async function attempt(work) {
  for (let count = 1; ; count += 1) {
    try {
      return await work();
    } catch (error) {
      const isAway = error instanceof TypeError || [429, 502, 503, 504].includes(error.status);
      if (!isAway || count === ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, (error.wait || RETRY / 1000) * 1000));
    }
  }
}
