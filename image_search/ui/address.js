// The address bar always opens what is shown; going back asks for what was shown before.
let isFirst = true;

watch('value', () => {
  const address = element.querySelector('[data-address]')?.dataset.address;
  if (address === undefined) return;
  const write = isFirst ? 'replaceState' : 'pushState';
  isFirst = false;
  if (address !== location.search.slice(1)) history[write](null, '', address ? `?${address}` : location.pathname);
});

window.addEventListener('popstate', () => trigger('open_address', { address: location.search.slice(1) }));
