// Names that Gradio and PhotoSwipe give in English only, in the visitor's language.
import { say } from './i18n.js';

const names = { 'Remove Image': 'remove_picture', 'Click to upload or drop files': 'choose_pictures' };
const selector = Object.keys(names).map((name) => `[aria-label="${name}"]`).join();

function translate() {
  for (const node of document.querySelectorAll(selector)) {
    const name = say(names[node.getAttribute('aria-label')]);
    node.setAttribute('aria-label', name);
    if (node.title) node.title = name;
  }
}

export function start() {
  new MutationObserver(translate).observe(document.querySelector('gradio-app'), { childList: true, subtree: true });
  translate();
}

// Roles that screen readers would read out in English; what remains is a group with a name.
export function forgetRoles(element) {
  for (const node of element.querySelectorAll('[aria-roledescription]')) node.removeAttribute('aria-roledescription');
}
