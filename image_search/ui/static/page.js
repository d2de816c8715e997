// What belongs to the page as a whole. A picture may be pasted or dropped anywhere: to search with it, or, over the
// panel below, to add it to the library.
function give(box, files) {
  const transfer = new DataTransfer();
  for (const file of files) transfer.items.add(file);
  const input = box.querySelector('input[type=file]');
  input.files = transfer.files;
  input.dispatchEvent(new Event('change', { bubbles: true }));
}

function take(files, place) {
  const panel = place?.querySelector('#add:has(input[type=file])');
  if (panel) return give(panel, files);
  const box = document.querySelector('#picture');
  if (box.querySelector('input[type=file]')) return give(box, files.slice(0, 1));
  // A picture that is there already goes first; its box then has room for another.
  new MutationObserver((_, observer) => {
    if (!box.querySelector('input[type=file]')) return;
    observer.disconnect();
    give(box, files.slice(0, 1));
  }).observe(box, { childList: true, subtree: true });
  box.querySelector('.icon-button-wrapper button')?.click();
}

document.addEventListener('paste', (event) => {
  const files = [...event.clipboardData.files];
  if (!files.length) return;
  event.preventDefault();
  take(files, document.querySelector('#upkeep:hover') || event.target.closest('#upkeep'));
});

// Without this, a browser leaves the page for a picture that misses its box.
document.addEventListener('dragover', (event) => event.preventDefault());
document.addEventListener('drop', (event) => {
  if (event.defaultPrevented) return;
  event.preventDefault();
  const files = [...event.dataTransfer.files];
  if (files.length) take(files, event.target.closest('#upkeep'));
});

// A key held down is one question.
document.addEventListener(
  'keydown',
  (event) => {
    if (event.repeat && event.key === 'Enter' && event.target.closest('#text')) event.preventDefault();
  },
  true,
);

// Gradio says this in English only.
new MutationObserver(() => {
  for (const text of document.querySelectorAll('[data-testid=toast-text]')) {
    const said = element.querySelector('h1')?.dataset.lost;
    if (said && text.textContent.trim().startsWith('Connection to the server was lost')) text.textContent = said;
  }
}).observe(document.body, { childList: true, subtree: true });
