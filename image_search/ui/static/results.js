// The grid: a click opens a picture, arrow keys walk over the tiles as they lie, s finds similar ones.
const findSimilar = (tile) => trigger('show_similar', { image_id: tile.dataset.image });

element.addEventListener('click', (event) => {
  const keep = event.target.closest('.keep');
  if (keep) trigger('keep_images', { image_ids: keep.dataset.images.split(',') });
  const tile = event.target.closest('li')?.querySelector('.tile');
  if (!tile) return;
  if (event.target.closest('.similar')) findSimilar(tile);
  else if (event.target.closest('.tile')) trigger('open_image', { image_id: tile.dataset.image });
});

element.addEventListener('submit', (event) => {
  event.preventDefault();
  const image_ids = new FormData(event.target).getAll('image');
  if (image_ids.length) trigger('delete_marked', { image_ids });
});

element.addEventListener('keydown', (event) => {
  const tile = event.target.closest('.tile');
  if (!tile || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === 's') findSimilar(tile);
  const tiles = [...element.querySelectorAll('.tile')];
  const columns = tiles.filter((other) => other.offsetTop === tiles[0].offsetTop).length;
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
  const next = tiles[tiles.indexOf(tile) + steps[event.key]];
  if (next) {
    event.preventDefault();
    next.focus();
  }
});
