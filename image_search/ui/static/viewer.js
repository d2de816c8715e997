// The dialog lives outside the component: the component redraws itself by comparing nodes and would close it.
const dialog = document.createElement('dialog');
dialog.className = 'viewer';
dialog.tabIndex = -1;
document.body.append(dialog);

const getTiles = () => [...document.querySelectorAll('#results .tile')];
const getShown = () => dialog.querySelector('.facts')?.dataset.image;

const isChanged = (field) => field.value !== field.defaultValue;

function step(by) {
  const tiles = getTiles();
  const place = tiles.findIndex((tile) => tile.dataset.image === getShown());
  tiles[place + by]?.click();
}

async function copyPrompt(button) {
  const text = button.closest('div').querySelector('dd').innerText;
  await navigator.clipboard?.writeText(text);
  button.classList.add('done');
}

function deleteImage() {
  trigger('delete_image', { image_id: getShown() });
  dialog.close();
}

function searchWords(words) {
  trigger('search_words', { words });
  dialog.close();
}

function findSimilar() {
  trigger('show_similar', { image_id: getShown() });
  dialog.close();
}

watch('value', () => {
  if (!props.value) return;
  const focused = ['.previous', '.next'].find((name) => dialog.querySelector(`${name}:focus`));
  const [former, scrolled] = [getShown(), dialog.querySelector('.facts')?.scrollTop];
  const fresh = new DOMParser().parseFromString(props.value, 'text/html');
  // What was saved is said only where it was typed: the person may be at another picture by now, or have closed this.
  if (fresh.querySelector('.said') && (!dialog.open || fresh.querySelector('.facts').dataset.image !== former)) return;
  dialog.replaceChildren(...fresh.body.children);
  if (former && former === getShown()) dialog.querySelector('.facts').scrollTop = scrolled;
  const places = getTiles().map((tile) => tile.dataset.image);
  const place = places.indexOf(getShown());
  const [previous, next] = ['.previous', '.next'].map((name) => dialog.querySelector(name));
  if (previous) previous.disabled = place <= 0;
  if (next) next.disabled = place < 0 || place === places.length - 1;
  const picture = dialog.querySelector('.stage img');
  if (picture?.dataset.original) {
    // The preview is there at once; the original takes its place when it has come.
    const original = new Image();
    original.onload = () => (picture.src = original.src);
    original.src = picture.dataset.original;
  }
  if (!dialog.open) dialog.showModal();
  // What had the focus is gone; without it the arrow keys would go to the page behind.
  const again = focused && dialog.querySelector(`${focused}:enabled`);
  (again || dialog).focus();
});

dialog.addEventListener('click', (event) => {
  if (event.target === dialog || event.target.closest('.close')) dialog.close();
  else if (event.target.closest('.similar')) findSimilar();
  else if (event.target.closest('.tag')) searchWords(event.target.dataset.words);
  else if (event.target.closest('.copy')) copyPrompt(event.target);
  else if (event.target.closest('.delete-now')) deleteImage();
  else if (event.target.closest('.previous')) step(-1);
  else if (event.target.closest('.next')) step(1);
});

dialog.addEventListener('submit', (event) => {
  event.preventDefault();
  // Only what was changed: the rest stays the file's.
  const changed = ['description', 'keywords'].map((name) => event.target.elements[name]).filter(isChanged);
  trigger('save_text', { image_id: getShown(), ...Object.fromEntries(changed.map(({ name, value }) => [name, value])) });
});

dialog.addEventListener('keydown', (event) => {
  if (event.target.closest('input, textarea') || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === 'ArrowLeft') step(-1);
  else if (event.key === 'ArrowRight') step(1);
  else if (event.key === 's') findSimilar();
});

dialog.addEventListener('close', () => {
  const shown = getShown();
  getTiles().find((tile) => tile.dataset.image === shown)?.focus();
  props.value = ''; // so that the same picture can be opened again
});
