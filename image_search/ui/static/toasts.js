// Short messages at the edge of the page, with one thing to do about them.
const place = document.getElementById('toasts');

// Returns what removes it before its time.
export function showToast(text, { action = '', onAction = null, seconds = 6, kind = '' } = {}) {
  const toast = document.createElement('div');
  toast.className = `toast ${kind}`;
  toast.append(Object.assign(document.createElement('span'), { textContent: text }));
  let before = null; // what had the focus
  toast.addEventListener('focusin', ({ relatedTarget }) => (before = relatedTarget));
  const remove = () => {
    const hadFocus = toast.contains(document.activeElement);
    toast.remove();
    if (!hadFocus) return;
    const next = before?.isConnected ? before : (document.querySelector('.pswp') ?? document.getElementById('heading'));
    next.focus({ preventScroll: true });
  };
  if (onAction) {
    const button = Object.assign(document.createElement('button'), { type: 'button', textContent: action });
    button.addEventListener('click', () => (remove(), onAction()));
    toast.append(button);
  }
  for (const other of place.children) if (other.firstElementChild.textContent === text) other.remove();
  while (place.children.length > 2) place.firstElementChild.remove();
  place.append(toast);
  // One that is being used stays.
  setTimeout(() => {
    if (toast.contains(document.activeElement)) toast.addEventListener('focusout', remove, { once: true });
    else remove();
  }, seconds * 1000);
  return remove;
}

// The viewer keeps the focus to itself; while it is open the messages are shown inside it.
export function moveToasts(parent) {
  parent.append(place);
}
