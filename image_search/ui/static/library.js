// The library tab: uploads, folders, jobs, the trash, models, duplicates, disk and check.
import { getInBackground, getJson, postJson } from './api.js';
import { joinSentences, say } from './i18n.js';
import { showToast } from './toasts.js';
import { start as startUploads } from './uploads.js';

const get = (id) => document.getElementById(id);
const page = get('library-page');
const POLL = 1000; // milliseconds between two looks at the jobs
const TRASH_PAGE = 48;

let changed = () => {};
let isShown = false;
let isPolling = false;
let ended = null; // jobs that were over when they were last looked at
let hasSamples = false; // all that will come
let loads = 0;

// onChange: called when images came into the library or left it.
export function start(onChange) {
  changed = onChange;
  startUploads(() => {
    ended ??= new Set(); // the new job may be over at the first look
    load();
  });
  startDuplicates();
  startCheck();
  startFolders();
  get('job-list').addEventListener('click', onJobClick);
  page.querySelector('.read-text').addEventListener('click', readText);
  page.querySelector('.forget-text').addEventListener('click', forgetText);
  get('trash-list').addEventListener('click', onTrashClick);
  get('empty-trash').addEventListener('click', emptyTrash);
  get('more-trash').addEventListener('click', () => attempt(() => loadTrash(get('trash-list').children.length)));
  for (const id of ['model-list', 'more-models']) get(id).addEventListener('click', onModelClick);
}

// Shows the tab as it is now, or stops looking after it.
export function follow(shown) {
  const isNew = shown && !isShown;
  isShown = shown;
  if (isNew) load();
}

// The samples are all there, and a model.
export function completeSamples() {
  if (hasSamples) return;
  hasSamples = true;
  if (isShown) load();
}

async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    showToast(error.title || say('offline'));
    return null;
  }
}

function clone(template) {
  const node = get(template).content.firstElementChild.cloneNode(true);
  return [node, (selector) => node.querySelector(selector)];
}

async function load() {
  const number = (loads += 1);
  const found = await attempt(() => getJson('ui/library'));
  if (number !== loads) return; // the answer to a newer question tells more
  if (found) await showParts(found);
  page.classList.add('loaded'); // all at once, so that nothing moves under the visitor's hand
}

async function showParts(found) {
  get('library-begin').hidden = !found.is_new;
  for (const node of page.querySelectorAll('.with-samples')) node.hidden = !found.samples;
  if (!found.has_all_samples) page.querySelector('.remove-samples').hidden = true; // the rest would still come
  for (const button of page.querySelectorAll('.add-folder')) button.disabled = !found.can_add;
  page.querySelector('.folders-closed').hidden = found.can_add;
  showFolders(found.folders);
  showModels(found);
  get('trash-note').textContent = found.trash_note;
  page.querySelector('.log-out').hidden = !found.has_password;
  showJobs(found.jobs);
  attempt(loadDisk); // takes long where there are many files
  await attempt(() => Promise.all([loadTrash(0), loadDuplicates()]));
}

// --- folders ----------------------------------------------------------------------------------------------------------

function startFolders() {
  const form = get('folder-form');
  const field = get('folder-path');
  for (const button of page.querySelectorAll('.add-folder')) button.addEventListener('click', () => openForm(true));
  form.querySelector('.cancel').addEventListener('click', () => openForm(false));
  let browsing = Promise.resolve(true); // whether the folder that was clicked is in the field
  form.querySelector('.browse').addEventListener('click', () => {
    browsing = browse(field.dataset.path ?? '');
  });
  field.addEventListener('input', () => delete field.dataset.path);
  get('folder-browser').addEventListener('click', ({ target }) => {
    const button = target.closest('button');
    if (button) browsing = browse(button.dataset.path);
  });
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const isChosen = await browsing; // on a slow line the field still names the folder above
    browsing = Promise.resolve(true);
    if (!isChosen) return;
    get('folder-error').textContent = '';
    try {
      await postJson('ui/library/folders', { path: field.dataset.path ?? field.value });
    } catch (error) {
      get('folder-error').textContent = error.title || say('offline');
      field.focus();
      return;
    }
    showToast(say('folder_added'));
    openForm(false);
    load();
  });
  get('folder-list').addEventListener('click', onFolderClick);
  page.querySelector('.choose-pictures').addEventListener('click', () => {
    document.querySelector('#add input[type=file]').click();
  });
  page.querySelector('.remove-samples').addEventListener('click', async () => {
    const removed = await attempt(() => postJson('ui/library/samples/remove', {}));
    if (!removed) return;
    showToast(say('samples_removed', removed));
    get('folders-title').focus(); // the button goes with them
    changed();
    load();
  });
}

function openForm(isOpen) {
  get('folder-form').hidden = !isOpen;
  get('folder-form').reset();
  delete get('folder-path').dataset.path;
  get('folder-error').textContent = '';
  get('folder-browser').hidden = true;
  const opener = page.querySelector('header .add-folder');
  opener.setAttribute('aria-expanded', isOpen);
  if (isOpen) get('folder-path').focus();
  else opener.focus();
}

async function browse(path) {
  const place = get('folder-browser');
  get('folder-error').textContent = '';
  let found;
  try {
    found = await getJson(`ui/library/browse?${new URLSearchParams({ path })}`);
  } catch (error) {
    get('folder-error').textContent = error.title || say('offline');
    return false;
  }
  place.hidden = false;
  get('folder-form').querySelector('.browse').setAttribute('aria-expanded', 'true');
  // The stored path and the name differ where a name is not UTF-8.
  Object.assign(get('folder-path'), { value: found.name }).dataset.path = found.path;
  place.querySelector('.where').textContent = found.name;
  place.querySelector('.none').hidden = found.folders.length > 0;
  const up = found.parent === null ? [] : [{ path: found.parent, name: `↑ ${say('browse_up')}` }];
  place.querySelector('ul').replaceChildren(
    ...[...up, ...found.folders].map((folder) => {
      const button = Object.assign(document.createElement('button'), { type: 'button', textContent: folder.name });
      button.dataset.path = folder.path;
      const item = document.createElement('li');
      item.append(button);
      return item;
    }),
  );
  place.querySelector('button')?.focus();
  return true;
}

function showFolders(folders) {
  page.querySelector('.no-folders').hidden = folders.length > 0;
  get('folder-list').replaceChildren(
    ...folders.map((folder) => {
      const [node, find] = clone('folder-template');
      node.dataset.path = folder.path;
      node.classList.toggle('is-missing', folder.is_missing);
      find('.name').textContent = folder.name;
      const facts = [say('folder_count', folder)];
      if (folder.is_missing) facts.push(say('folder_missing'));
      else if (!folder.can_scan) facts.push(say('folder_out_of_reach'));
      find('.facts').textContent = facts.join(' · ');
      find('.show').href = `?${new URLSearchParams({ folder: folder.path })}`;
      find('.show').hidden = !folder.count;
      find('.watch').setAttribute('aria-pressed', String(folder.is_watched));
      find('.watch').hidden = !folder.can_scan;
      find('.scan').disabled = !folder.can_scan || folder.is_missing;
      return node;
    }),
  );
}

async function onFolderClick({ target }) {
  const path = target.closest('li')?.dataset.path;
  if (target.closest('.scan') && (await attempt(() => postJson('ui/library/folders/scan', { path })))) load();
  const watch = target.closest('.watch');
  if (watch) {
    const wanted = watch.getAttribute('aria-pressed') !== 'true';
    const said = await attempt(() => postJson('ui/library/folders/watch', { path, is_watched: wanted }));
    if (!said) return;
    watch.setAttribute('aria-pressed', String(said.is_watched));
    showToast(say(said.is_watched ? 'folder_watched' : 'folder_unwatched'));
  }
  if (target.closest('.remove')) {
    const removed = await attempt(() => postJson('ui/library/folders/remove', { path }));
    if (!removed) return;
    showToast(say('folder_removed', removed));
    await load();
    get('folders-title').focus();
  }
}

// --- jobs -------------------------------------------------------------------------------------------------------------

function showJobs(jobs) {
  page.querySelector('.no-jobs').hidden = jobs.length > 0;
  const list = get('job-list');
  const known = new Map([...list.children].map((node) => [node.dataset.id, node]));
  const nodes = jobs.map((job) => showJob(job, known.get(String(job.id))));
  // Nodes that stay in place keep focus and open lists.
  if (nodes.length !== list.children.length || nodes.some((node, place) => node !== list.children[place])) {
    list.replaceChildren(...nodes);
  }
  const over = new Set(jobs.filter((job) => !isRunning(job)).map(({ id }) => id));
  const hasEnded = ended && [...over].some((id) => !ended.has(id));
  ended = over;
  if (hasEnded) (changed(), load());
  else if (over.size < jobs.length && !isPolling) poll();
}

const isRunning = ({ state }) => state === 'running' || state === 'waiting';

async function poll() {
  isPolling = true;
  await new Promise((resolve) => setTimeout(resolve, POLL));
  const isTyping = document.activeElement?.matches('input, textarea');
  const look = isTyping ? getInBackground : getJson;
  const found = await look('ui/library/jobs').catch((error) => error);
  isPolling = false;
  if (found.jobs) showJobs(found.jobs);
  else if (isShown && (isTyping || found.status !== 401)) poll(); // the program is away, and may come back
}

function showJob(job, known) {
  const [made, findMade] = known ? [known, (selector) => known.querySelector(selector)] : clone('job-template');
  made.dataset.id = job.id;
  made.dataset.state = job.state;
  findMade('.name').textContent = job.title;
  findMade('.state').textContent = job.state_text;
  findMade('.facts').textContent = job.facts.join(' · ');
  const bar = findMade('progress');
  bar.hidden = job.state !== 'running';
  bar.setAttribute('aria-label', job.title);
  if (job.total) Object.assign(bar, { max: job.total, value: job.done });
  else bar.removeAttribute('value');
  const error = findMade('.error');
  error.hidden = !job.error;
  error.textContent = job.error;
  const details = findMade('details');
  details.hidden = !job.failed;
  findMade('summary').textContent = job.failed_text;
  const list = findMade('details ul');
  for (const sentence of job.failures.slice(list.children.length)) {
    list.append(Object.assign(document.createElement('li'), { textContent: sentence }));
  }
  findMade('.stop').hidden = !isRunning(job);
  return made;
}

async function onJobClick({ target }) {
  const button = target.closest('.stop');
  if (!button) return;
  get('jobs-title').focus(); // the button goes with the job
  button.disabled = true;
  button.textContent = say('job_stopping');
  const { id } = button.closest('li').dataset;
  const done = await attempt(() => postJson(`ui/library/jobs/${id}/cancel`, {}));
  if (!done) Object.assign(button, { disabled: false, textContent: say('job_stop') });
}

async function readText() {
  try {
    await postJson('ui/library/text/read', {});
    load();
  } catch (error) {
    showToast(joinSentences(error.title || say('offline'), error.hint), { seconds: 12 }); // how to get the package
  }
}

async function forgetText() {
  if (!(await confirm(say('forget_text_question'), say('forget_text')))) return;
  if (await attempt(() => postJson('ui/library/text/forget', {}))) load();
}

// --- trash ------------------------------------------------------------------------------------------------------------

async function loadTrash(offset) {
  const limit = offset ? TRASH_PAGE : Math.max(TRASH_PAGE, get('trash-list').children.length);
  const { tiles, total } = await getJson(`ui/library/trash?offset=${offset}&limit=${Math.min(limit, 200)}`);
  if (!offset) get('trash-list').replaceChildren();
  for (const tile of tiles) {
    const [node, find] = clone('trash-template');
    Object.assign(node.dataset, { id: tile.id, name: tile.name });
    find('img').src = `images/${tile.id}/preview?v=${tile.version}&small=1`;
    find('img').alt = tile.alt;
    find('.name').textContent = tile.name;
    find('.name').title = tile.name;
    find('.restore').setAttribute('aria-label', `${say('restore')}: ${tile.name}`);
    find('.erase').setAttribute('aria-label', `${say('delete_forever')}: ${tile.name}`);
    get('trash-list').append(node);
  }
  get('trash-count').textContent = total ? say('folder_count', { count: total }) : '';
  get('empty-trash').hidden = !total;
  page.querySelector('.no-trash').hidden = total > 0;
  get('more-trash').hidden = get('trash-list').children.length >= total;
}

async function onTrashClick({ target }) {
  const { id, name } = target.closest('li')?.dataset ?? {};
  if (target.closest('.restore')) {
    if (!(await attempt(() => postJson('ui/restore', { ids: [Number(id)] })))) return;
    showToast(say('restored_name', { name }));
    changed();
  } else if (target.closest('.erase')) {
    if (!(await confirm(say('delete_forever_question', { name }), say('delete_forever')))) return;
    await attempt(() => erase({ ids: [Number(id)] }));
  } else return;
  await load();
  get('trash-title').focus();
}

async function emptyTrash() {
  await attempt(askToEmpty);
  await load();
  get('trash-title').focus();
}

// The question names what is in the trash by now, and is asked once more where that changes before the answer.
async function askToEmpty(said = '') {
  const { total: count, version } = await getJson('ui/library/trash?limit=1');
  if (!count) return;
  if (!(await confirm(joinSentences(said, say('empty_trash_question', { count })), say('empty_trash')))) return;
  try {
    await erase({ version });
  } catch (error) {
    if (error.status !== 409) throw error;
    await askToEmpty(error.title);
  }
}

async function erase(chosen) {
  showToast(say('deleted_forever', await postJson('ui/library/trash/empty', chosen)));
}

function confirm(question, action) {
  const dialog = get('confirm');
  get('confirm-question').textContent = question;
  dialog.querySelector('[value=yes]').textContent = action;
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true });
  });
}

// --- models -----------------------------------------------------------------------------------------------------------

const SHOWN_MODELS = 4; // the others are behind "more"

function showModels({ models, model_note: note }) {
  get('model-note').hidden = !note;
  get('model-note').textContent = note;
  const nodes = models.map((model) => makeModel(model, Boolean(note)));
  const first = nodes.filter((_, place) => models[place].current || models[place].is_here);
  const rest = nodes.filter((node) => !first.includes(node));
  get('model-list').replaceChildren(...first, ...rest.splice(0, Math.max(SHOWN_MODELS - first.length, 1)));
  get('more-models').querySelector('ul').replaceChildren(...rest);
  get('more-models').hidden = !rest.length;
}

function makeModel(model, isSet) {
  const [node, find] = clone('model-template');
  node.dataset.name = model.name;
  find('.name').textContent = model.name;
  find('.facts').textContent = model.facts.join(' · ');
  find('.obstacle').hidden = !model.obstacle || model.current;
  find('.obstacle').textContent = model.obstacle;
  find('.address').hidden = !model.address;
  find('.address').href = model.address;
  find('.address').setAttribute('aria-label', `${say('model_page')}: ${model.name}`);
  find('.current').hidden = !model.current;
  find('.use').hidden = model.current || isSet || Boolean(model.obstacle);
  find('.use').setAttribute('aria-label', `${say('model_use')}: ${model.name}`);
  return node;
}

async function onModelClick({ target }) {
  if (!target.closest('.use')) return;
  const { name } = target.closest('li').dataset;
  if (!(await attempt(() => postJson('ui/library/models/use', { name })))) return;
  showToast(say('model_started', { name }));
  await load();
  get('jobs-title').focus();
  get('jobs-title').scrollIntoView({ block: 'nearest' });
}

// --- duplicates -------------------------------------------------------------------------------------------------------

function startDuplicates() {
  get('find-duplicates').addEventListener('click', async () => {
    if (await attempt(() => postJson('ui/library/duplicates', {}))) load();
  });
  get('duplicates').addEventListener('click', async ({ target }) => {
    const group = target.closest('.group');
    const keepBest = target.closest('.keep-best');
    if (!group || !(keepBest || target.closest('.keep'))) return;
    const boxes = [...group.querySelectorAll('[name=image]')];
    const chosen = keepBest ? boxes.filter(({ checked }) => checked) : boxes;
    const ids = chosen.map(({ value }) => Number(value));
    if (!ids.length) return;
    const answer = await attempt(() => postJson(keepBest ? 'ui/trash' : 'ui/duplicates/keep', { ids }));
    if (!answer) return;
    if (keepBest) {
      const gone = ids.length - answer.ids.length;
      const undo = () => attempt(() => postJson('ui/restore', { ids: answer.ids })).then(() => (changed(), load()));
      if (!answer.count) showToast(say('gone_meanwhile', { count: gone }));
      else showToast(say('trashed_count', answer), { action: say('undo'), onAction: undo });
      changed();
    } else showToast(say('kept_all'));
    await load();
    get('duplicates-title').focus();
  });
}

async function loadDuplicates() {
  const { html } = await getJson('ui/library/duplicates');
  // A template of this program, escaped by it.
  if (get('duplicates').dataset.html !== html) get('duplicates').innerHTML = html;
  get('duplicates').dataset.html = html;
}

// --- disk and check ---------------------------------------------------------------------------------------------------

function startCheck() {
  get('run-check').addEventListener('click', async ({ target }) => {
    if (target.ariaBusy === 'true') return; // a disabled button would lose the focus
    target.ariaBusy = 'true';
    const found = await attempt(() => getJson('ui/library/check'));
    target.ariaBusy = 'false';
    if (!found) return;
    get('findings').replaceChildren(...found.findings.map(showFinding));
    const count = found.findings.filter(({ ok }) => !ok).length;
    showToast(count ? say('check_found', { count }) : say('check_found_none'));
  });
}

function showFinding(finding) {
  const [node, find] = clone('finding-template');
  node.dataset.ok = finding.ok;
  find('.name').textContent = finding.name;
  find('.state').textContent = finding.state;
  find('.text').textContent = finding.what;
  find('.remedy').textContent = finding.remedy;
  find('details').hidden = !finding.details.length;
  find('details p').textContent = finding.details.join('\n');
  return node;
}

async function loadDisk() {
  const { parts } = await getJson('ui/library/disk');
  const make = (tag, textContent) => Object.assign(document.createElement(tag), { textContent });
  get('disk').replaceChildren(...parts.flatMap(({ name, size }) => [make('dt', name), make('dd', size)]));
}
