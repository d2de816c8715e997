// Where the tiles lie: rows of one height whose images keep their shape, or equal squares. Pure arithmetic, so that
// 20,000 tiles take milliseconds.
const GAP = 4;
const LABEL = 58; // under each tile while details are shown
const HEADING = 52;

// The rows of so many tiles. headingOf(tile, index): text of a heading before the tile, '' for none.
// Returns { rows: [{ top, height, heading, cells: [{ index, left, width }] }], height }.
export function layOut(tiles, { width, mode, detailed, headingOf, isComplete }) {
  const rows = [];
  let top = 0;
  const label = detailed ? LABEL : 0;
  const add = (row) => {
    rows.push({ ...row, top });
    top += row.height + (row.heading ? 0 : GAP);
  };
  const addTiles = mode === 'square' ? makeSquares(width, label, add) : makeRows(width, label, add);
  let start = 0;
  for (let index = 0; index <= tiles.length; index += 1) {
    const heading = index < tiles.length ? headingOf(tiles[index], index) : '';
    if (!heading && index < tiles.length) continue;
    addTiles(tiles, start, index, index < tiles.length || isComplete);
    if (heading) add({ height: HEADING, ...heading, cells: [] });
    start = index;
  }
  return { rows, height: Math.max(0, top - GAP) };
}

function makeSquares(width, label, add) {
  const wanted = width < 600 ? 120 : 190;
  const columns = Math.max(2, Math.round(width / wanted));
  const size = (width - GAP * (columns - 1)) / columns;
  return (_, start, end) => {
    for (let first = start; first < end; first += columns) {
      const cells = [];
      for (let index = first; index < Math.min(end, first + columns); index += 1)
        cells.push({ index, left: (index - first) * (size + GAP), width: size });
      add({ height: size + label, cells });
    }
  };
}

function makeRows(width, label, add) {
  const wanted = width < 600 ? 150 : width < 1100 ? 190 : 220;
  return (tiles, start, end, isLast) => {
    let row = [];
    let shapes = 0;
    const flush = (isFull) => {
      if (!row.length) return;
      const space = width - GAP * (row.length - 1);
      const height = isFull ? space / shapes : Math.min(wanted, space / shapes);
      let left = 0;
      const cells = row.map(({ index, shape }) => {
        const cell = { index, left, width: shape * height };
        left += cell.width + GAP;
        return cell;
      });
      add({ height: height + label, cells });
      row = [];
      shapes = 0;
    };
    for (let index = start; index < end; index += 1) {
      const shape = getShape(tiles[index]);
      const before = shapes && (width - GAP * (row.length - 1)) / shapes;
      const after = (width - GAP * row.length) / (shapes + shape);
      // The row ends where its height is nearest to the one wanted.
      if (before && after < wanted && wanted - after > before - wanted) flush(true);
      row.push({ index, shape });
      shapes += shape;
      if (after <= wanted && (width - GAP * (row.length - 1)) / shapes <= wanted) flush(true);
    }
    flush(false);
  };
}

// Very long images are cut at the sides, so that they leave room for others.
function getShape(tile) {
  return Math.min(3, Math.max(0.5, tile.width / tile.height || 1));
}

// How many tiles from the first on are relevant on the whole: where the sum of the evidence is largest. As in results.py.
export function findCutoff(tiles) {
  if (!tiles.length || tiles.some((tile) => tile.relevance === null)) return tiles.length;
  let [sum, best, place] = [0, -Infinity, 0];
  tiles.forEach((tile, index) => {
    sum += tile.relevance - 0.5;
    if (sum >= best) [best, place] = [sum, index + 1];
  });
  return best >= 0 ? place : 0;
}
