// The address bar always opens what is shown; going back asks for what was shown before. The values to choose from are
// counted again for what is shown, if the person looks at them.
let isFirst = true;

watch('value', () => {
  if (document.querySelector('#details .label-wrap.open')) trigger('count_values');
  const address = element.querySelector('[data-address]')?.dataset.address;
  if (address === undefined) return;
  const write = isFirst ? 'replaceState' : 'pushState';
  isFirst = false;
  if (address !== location.search.slice(1)) history[write](null, '', address ? `?${address}` : location.pathname);
});

window.addEventListener('popstate', () => trigger('open_address', { address: location.search.slice(1) }));
