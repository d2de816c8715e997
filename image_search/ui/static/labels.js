// Names that Gradio and PhotoSwipe give in English only, in the visitor's language.
import { say } from './i18n.js';

// Gradio words some of them itself, in the visitor's language or not, and speaks of dropping on a phone.
const names = {
  '[aria-label="Remove Image"]': 'remove_picture',
  '#picture button:has(input[type=file])': 'search_with_picture',
  '#add button:has(input[type=file])': 'choose_pictures',
};

function translate() {
  for (const [selector, key] of Object.entries(names)) {
    for (const node of document.querySelectorAll(selector)) {
      const name = say(key);
      if (node.getAttribute('aria-label') === name) continue;
      node.setAttribute('aria-label', name);
      if (node.title) node.title = name;
    }
  }
  // The page has a main part of its own.
  const bar = document.querySelector('gradio-app main:not([role])');
  bar?.setAttribute('role', 'search');
}

export function start() {
  new MutationObserver(translate).observe(document.querySelector('gradio-app'), { childList: true, subtree: true });
  translate();
}

// Roles that screen readers would read out in English; what remains is a group with a name.
export function forgetRoles(element) {
  for (const node of element.querySelectorAll('[aria-roledescription]')) node.removeAttribute('aria-roledescription');
}
