// Texts of the page in the visitor's language; they come with the document.
const data = JSON.parse(document.getElementById('page-data').textContent);

export const language = data.language;

export function say(key, values = {}) {
  const text = data.messages[key] ?? key;
  // {count|picture|pictures}: the first word for 1, the second for any other number.
  const agreed = text.replace(/\{(\w+)\|([^|{}]*)\|([^|{}]*)\}/g, (_, name, one, many) => (Number(values[name]) === 1 ? one : many));
  return agreed.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name];
    if (value === undefined) return whole;
    return typeof value === 'number' ? value.toLocaleString(language) : value;
  });
}

// One after the other, each ended; the last as it is.
export function joinSentences(...sentences) {
  const [start = '', ...others] = sentences.filter(Boolean);
  return others.reduce((text, next) => say('sentences', { first: text.replace(/[。.]$/, ''), next }), start);
}

export function sayMonth(month) {
  if (!month) return say('undated');
  const [year, number] = month.split('-').map(Number);
  const format = new Intl.DateTimeFormat(language, { year: 'numeric', month: 'long' });
  return format.format(new Date(year, number - 1, 1));
}

export function sayTime(moment) {
  return new Intl.DateTimeFormat(language, { dateStyle: 'medium', timeStyle: 'short' }).format(moment);
}
