// Copying works over plain http, too, where browsers offer no navigator.clipboard.
import { say } from './i18n.js';
import { showToast } from './toasts.js';

export async function copyText(text, parent = document.body, done = say('copied'), failed = say('not_copied')) {
  showToast((await write(text, parent)) ? done : failed);
}

async function write(text, parent) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return writeBySelection(text, parent);
  }
}

function writeBySelection(text, parent) {
  const focused = document.activeElement;
  const field = Object.assign(document.createElement('textarea'), { value: text, readOnly: true });
  field.style.cssText = 'position: fixed; opacity: 0';
  parent.append(field);
  field.select();
  const isCopied = document.execCommand('copy');
  field.remove();
  focused?.focus();
  return isCopied;
}
