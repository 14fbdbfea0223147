// What is known: the data of the page and the words for it. Every string here was chosen by somebody else; it becomes text of the page,
// never markup.

const data = JSON.parse(document.getElementById('data').textContent);
const text = (place) => data.strings[place];
const known = (place) => (place === undefined ? '–' : text(place));
const find = (id) => document.getElementById(id);

// Makes an element. Children are elements or text.
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const SEVERITIES = {
  critical: { rank: 0, sign: '✖' },
  warning: { rank: 1, sign: '▲' },
  info: { rank: 2, sign: '●' },
};
const severity = (name) => SEVERITIES[name] ?? SEVERITIES.info;

const MICROSECOND = 1, MILLISECOND = 1e3, SECOND = 1e6, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR;

// Two largest units, cut off and never rounded up, as everywhere in zsock.
function duration(microseconds) {
  const t = Math.abs(microseconds);
  const both = (large, name, small, smallName) => {
    const rest = Math.floor((t % large) / small);
    return `${Math.floor(t / large)} ${name}${rest ? ` ${rest} ${smallName}` : ''}`;
  };
  if (t >= DAY) return both(DAY, 'd', HOUR, 'h');
  if (t >= HOUR) return both(HOUR, 'h', MINUTE, 'min');
  if (t >= MINUTE) return both(MINUTE, 'min', SECOND, 's');
  if (t >= SECOND) return `${Math.floor(t / (SECOND / 10)) / 10} s`;
  if (t >= MILLISECOND || t === 0) return `${Math.floor(t / MILLISECOND)} ms`;
  return `${Math.floor(t)} µs`;
}
const signed = (microseconds) => (microseconds < 0 ? '−' : '+') + duration(microseconds);

const iso = (at) => new Date(data.base_ms + Math.floor(at / MILLISECOND)).toISOString();
const day = (at) => iso(at).split('T')[0];
const clock = (at) => iso(at).split('T')[1].slice(0, 12);
const moment = (at) => `${day(at)} ${clock(at)}`;
const span = (from, until) => `${moment(from)} to ${day(from) === day(until) ? clock(until) : moment(until)}`;
const count = (number, thing) => `${number.toLocaleString('en')} ${thing}${number === 1 ? '' : 's'}`;

// What a story's verdict is at the end: final ones were never open, others hold until they close.
const isFinal = (verdict) => verdict.closed !== undefined && verdict.opened === undefined && verdict.outcome === undefined;
const isOpen = (verdict) => verdict.closed === undefined;
function ending(verdict) {
  if (isFinal(verdict)) return 'final';
  if (isOpen(verdict)) return 'still open at the end';
  return verdict.outcome === undefined ? 'closed' : `closed: ${text(verdict.outcome)}`;
}

const host = (story) => (data.runs[story.run] ? text(data.runs[story.run].host) : '–');
const endOf = (story) => Math.max(story.span[1], data.runs[story.run]?.span?.[1] ?? 0);
// Only a process has none.
const endsOf = (story) => (story.ends === undefined ? 'all of its sockets' : text(story.ends));
const title = (story) => `${known(story.owner)}  ${endsOf(story)}`;

// What is asked of every story again and again.
for (const [number, story] of data.stories.entries()) {
  story.number = number;
  story.host = host(story);
  story.names = new Set(story.verdicts.map((verdict) => verdict.name));
  story.incidents = new Set();
  const told = story.verdicts.flatMap((verdict) => verdict.told.map(([at]) => at));
  const until = story.verdicts.some(isOpen) ? endOf(story) : Math.max(...told);
  story.trouble = told.length ? [Math.min(...told), until] : story.span;
  story.gravest = story.verdicts.reduce((worst, verdict) => {
    const [now, before] = [verdict, worst].map((it) => (it ? severity(text(it.severity)).rank : 9));
    return now < before || (now === before && isFinal(verdict)) ? verdict : worst;
  }, undefined);
  const words = [story.owner, story.ends, story.process, story.place, ...story.facts, ...story.names];
  story.words = words.filter((place) => place !== undefined).map(text).concat(story.host).join('\n').toLowerCase();
}
for (const [number, incident] of data.incidents.entries()) {
  for (const story of incident.stories) data.stories[story]?.incidents.add(number);
}

for (const join of data.joins) {
  for (const end of [join.client, join.server]) if (data.stories[end]) data.stories[end].join = join;
}

// From the first to the last of the things that lie in `spans`; undefined where there is none.
function around(spans) {
  let from = Infinity, until = -Infinity;
  for (const [a, b] of spans) {
    from = Math.min(from, a);
    until = Math.max(until, b);
  }
  return from <= until ? [from, until] : undefined;
}
const whole = around([...data.runs.flatMap((run) => (run.span ? [run.span] : [])), ...data.stories.map((story) => story.span)]) ?? [0, SECOND];
