// The library page.
import { postJson } from './api.js';
import { say } from './i18n.js';
import { showToast } from './toasts.js';

// onChange: called when images came into the library or left it.
export function start(onChange) {
  document.addEventListener('page:added', onChange);
  document.addEventListener('submit', async (event) => {
    const form = event.target.closest('.duplicates');
    if (!form) return;
    event.preventDefault();
    const marked = [...form.querySelectorAll('[name=image]:checked')];
    if (!marked.length) return;
    try {
      await postJson('ui/trash', { ids: marked.map(({ value }) => Number(value)) });
      for (const box of marked) box.closest('li').remove();
      onChange();
    } catch (error) {
      showToast(error.title || say('offline'));
    }
  });
  document.addEventListener('click', async ({ target }) => {
    const group = target.closest('.duplicates .keep')?.closest('fieldset');
    if (!group) return;
    try {
      await postJson('ui/duplicates/keep', { ids: [...group.querySelectorAll('[name=image]')].map(({ value }) => Number(value)) });
      group.remove();
    } catch (error) {
      showToast(error.title || say('offline'));
    }
  });
}
