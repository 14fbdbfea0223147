
// What happened to one socket, with its verdicts; beside it its other end, where that was recorded too.

const detail = find('detail');

function openLane(place) {
  const story = visible.stories[place];
  if (!story) return;
  visible.chosen = place;
  if (place * ROW < lanes.scrollTop) lanes.scrollTop = place * ROW;
  if ((place + 1) * ROW > lanes.scrollTop + lanes.clientHeight) lanes.scrollTop = (place + 1) * ROW - lanes.clientHeight;
  openStory(story);
  redraw();
}
function openStory(story) {
  const other = data.stories[story.other_end];
  const timeline = [make('h3', {}, other ? 'Both ends of the connection' : 'Timeline'), ...joined(story), table(story, other)];
  const gravestFirst = [...story.verdicts].sort((a, b) => severity(text(a.severity)).rank - severity(text(b.severity)).rank);
  const verdicts = [...gravestFirst.map(card), facts(story), ...(other ? [facts(other)] : [])];
  detail.replaceChildren(heading(story), make('div', { className: other ? 'sides both' : 'sides' }, make('div', {}, ...timeline), make('div', { className: 'verdicts' }, ...verdicts)));
  detail.hidden = false;
  detail.scrollTop = 0;
  redraw();
}
// What both ends together tell, and by which clock.
function joined({ join }) {
  if (!join) return [];
  const summary = join.summary === undefined ? [] : [make('p', { className: 'sentence' }, text(join.summary))];
  const [client, server] = [join.client, join.server].map((end) => data.stories[end]?.host);
  const moved = `Times are by the clock of ${client}; that of ${server} is ${duration(join.server_ahead)} ${join.server_ahead < 0 ? 'behind' : 'ahead'}.`;
  return [...summary, ...(join.server_ahead ? [make('p', { className: 'caption' }, moved)] : [])];
}
function closeStory() {
  detail.hidden = true;
  visible.chosen = undefined;
  lanes.focus();
  redraw();
}

function heading(story) {
  const near = () => { frame(story.trouble); redraw(); };
  const all = () => { show(story.span[0] - SECOND, Math.max(story.span[1], endOf(story)) + SECOND); redraw(); };
  return make('div', { className: 'heading' },
    make('h2', {}, title(story)), make('span', { className: 'host' }, story.host),
    make('button', { type: 'button', onclick: near }, 'zoom to its trouble'),
    make('button', { type: 'button', onclick: all }, 'zoom to its life'),
    make('button', { type: 'button', id: 'close', title: 'Close (key Esc)', onclick: closeStory }, 'close'));
}

function card(verdict) {
  const name = text(verdict.severity), { sign } = severity(name);
  const from = verdict.told[0][0];
  const times = isFinal(verdict) ? moment(from) : isOpen(verdict) ? `from ${moment(from)}` : `${span(from, verdict.closed)} (${duration(verdict.closed - from)})`;
  const last = verdict.told[verdict.told.length - 1];
  const advice = verdict.advice.length ? [make('p', { className: 'caption' }, 'What to change'), list('ol', verdict.advice)] : [];
  return make('article', { className: `card ${name}` },
    make('h3', {}, make('span', { className: `sign ${name}` }, `${sign} ${text(verdict.name)}`),
      make('span', { className: 'how' }, `${name}, ${ending(verdict)}`)),
    make('p', { className: 'caption' }, `${times} UTC; began ${duration(from - verdict.since)} before`),
    make('p', { className: 'sentence' }, text(last[2])),
    list('ul', verdict.evidence, 'evidence'), ...advice);
}
const list = (kind, places, className = 'advice') => make(kind, { className }, ...places.map((place) => make('li', {}, text(place))));

function facts(story) {
  const lines = [[known(story.owner), endsOf(story), `on ${story.host}`], story.facts.map(text), story.tcp.map(text).filter((fact) => fact !== '–')];
  return make('p', { className: 'facts' }, lines.filter((line) => line.length).map((line) => line.join(' · ')).join('\n'));
}

// Everything of one end in the order of time: events, verdicts, and where some are missing.
// Times are by the clock of the host that the connection was made from.
const behind = (story) => (story.join && story.number === story.join.server ? story.join.server_ahead : 0);
function told(story, end) {
  return toldByItsClock(story, end).map((row) => ({ ...row, at: row.at - behind(story) }));
}
function toldByItsClock(story, end) {
  const events = story.entries.map(([at, what, details, flags], place) => ({
    at, end, name: text(what), words: text(details) + (flags & 1 ? ' (replayed)' : '') + (flags & 2 ? ' (inferred)' : ''),
    missing: story.omitted && place === story.omitted_at ? story.omitted : 0,
  }));
  if (story.omitted && story.omitted_at >= events.length) events.push({ at: story.span[1], end, name: '…', words: `${story.omitted} more` });
  const verdicts = story.verdicts.flatMap((verdict) => verdict.told.map(([at, phase, summary]) => ({
    at, end, verdict, name: `${text(verdict.name)} ${isFinal(verdict) ? '' : text(phase)}`.trim(), words: text(summary),
  })));
  return [...events, ...verdicts];
}

function table(story, other) {
  const zero = (story.gravest ? story.gravest.told[0][0] : story.span[0]) - behind(story);
  const ends = other ? [story, other] : [story];
  const all = ends.flatMap(told).sort((a, b) => a.at - b.at);
  const named = other ? ends.map((end) => `${end.host}: ${known(end.owner)}`) : ['event'];
  const head = ['UTC', 'to the verdict', 'since the line above', ...named];
  const body = make('tbody');
  let previous;
  for (const row of all) {
    if (row.missing) body.append(line(['', '', '', `… ${count(row.missing, 'entry').replace('entrys', 'entries')} not kept …`], row.end, ends.length, 'missing'));
    if (!previous || day(previous.at) !== day(row.at)) body.append(make('tr', { className: 'day' }, make('th', { colSpan: 3 + ends.length }, `${day(row.at)}, UTC`)));
    const gap = previous ? signed(row.at - previous.at) : '';
    body.append(line([clock(row.at), signed(row.at - zero), gap, content(row)], row.end, ends.length, row.verdict ? `verdict ${text(row.verdict.severity)}` : ''));
    previous = row;
  }
  const header = make('thead', {}, make('tr', {}, ...head.map((words) => make('th', { scope: 'col' }, words))));
  return make('div', { className: 'scroll' }, make('table', { className: 'timeline' }, header, body));
}
function content(row) {
  const sign = row.verdict ? `${severity(text(row.verdict.severity)).sign} ` : '';
  return make('span', {}, make('b', { className: MARKS[row.name]?.colour ?? '' }, `${sign}${row.name}`), '  ', row.words);
}
// One line; with two ends, in the column of its own.
function line([at, relative, gap, content], end, ends, className) {
  const cells = Array.from({ length: ends }, (_, place) => make('td', {}, ...(place === end ? [content] : [])));
  return make('tr', { className }, make('td', { className: 'time' }, at), make('td', { className: 'time' }, relative), make('td', { className: 'time' }, gap), ...cells);
}
