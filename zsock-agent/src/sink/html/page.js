
// The page around the lanes: what was read, incidents, filters, keys.

const INCIDENTS_AT_ONCE = 50;
const process = (incident) => known(incident.process), place = (incident) => known(incident.place);

function tellSummary() {
  const hosts = [...new Set(data.runs.map((run) => text(run.host)))];
  const named = hosts.length > 3 ? `${hosts.slice(0, 3).join(', ')} and ${hosts.length - 3} more` : hosts.join(', ');
  const covered = data.runs.length || data.stories.length ? [`${span(...whole)} UTC (${duration(whole[1] - whole[0])})`] : ['nothing was read'];
  const parts = [count(data.incidents.length, 'incident'), count(data.stories.length, 'socket').replace(/$/, ' in trouble'), ...(hosts.length ? [named] : []), ...covered];
  find('summary').textContent = parts.join(' · ');

  const lost = data.runs.reduce((sum, run) => sum + run.lost, 0), gaps = data.runs.reduce((sum, run) => sum + run.gaps.length, 0);
  const repeated = data.runs.filter((run) => run.is_repeated).length;
  // Of the last run of a host it is no wonder: it may go on.
  const isFollowed = (run, place) => data.runs.slice(place + 1).some((later) => later.host === run.host);
  const unended = data.runs.filter((run, place) => !run.is_ended && run.kernel !== undefined && isFollowed(run, place)).length;
  const warnings = [
    lost && `${count(lost, 'record')} lost: what is told may be incomplete`,
    ...data.shed.map(text),
    gaps && `${count(gaps, 'gap')} in which nobody watched`,
    repeated && `${count(repeated, 'run')} read twice or in the wrong order: what is told may be counted twice`,
    data.stories_dropped && `${count(data.stories_dropped, 'socket')} more in trouble found no room in this report`,
    data.sockets_dropped && `${count(data.sockets_dropped, 'socket')} let go for want of memory before they could be judged to their end`,
    data.damages.length && `${count(data.damages.length + data.damages_dropped, 'passage')} could not be read`,
    ...data.unjoined.map(text),
    unended && `${count(unended, 'run')} stopped without an end: zsock or the host was killed`,
    ...data.clocks.map(text),
  ];
  find('warnings').replaceChildren(...warnings.filter(Boolean).map((words) => make('li', {}, words)));
}

function tellSources() {
  const head = ['host', 'kernel', 'boot', 'from', 'to', 'records', 'lost', 'gaps', 'end'];
  const runs = data.runs.map((run) => [
    text(run.host), known(run.kernel), known(run.boot_id), ...(run.span ? run.span.map(moment) : ['–', '–']),
    run.records.toLocaleString('en'), run.lost.toLocaleString('en'),
    run.gaps.map(([from, until]) => `${moment(from)} for ${duration(until - from)}`).join('\n') || 'none',
    run.is_ended ? 'in order' : 'not recorded',
  ]);
  const row = (tag) => (cells) => make('tr', {}, ...cells.map((cell) => make(tag, {}, cell)));
  const table = make('table', { className: 'runs' }, make('thead', {}, row('th')(head)), make('tbody', {}, ...runs.map(row('td'))));
  const noted = [...data.clocks, ...data.damages];
  find('runs').replaceChildren(make('div', { className: 'scroll' }, table), ...(noted.length ? [list('ul', noted, 'noted')] : []),
    make('p', { className: 'caption' }, `Made by zsock ${data.version}.`));
}

function tellIncidents(shown = INCIDENTS_AT_ONCE) {
  const section = find('incidents');
  if (!data.incidents.length) {
    const words = data.stories.length ? 'No incidents.' : 'No socket was in trouble in what was read.';
    section.replaceChildren(make('h2', {}, 'Incidents'), make('p', { className: 'empty' }, words));
    return;
  }
  const items = data.incidents.slice(0, shown).map((incident, number) => {
    const name = text(incident.severity), { sign } = severity(name), sockets = incident.stories.length;
    const button = make('button', { type: 'button', className: `incident ${name}`, onclick: () => chooseIncident(number) },
      make('span', { className: 'line' }, make('span', { className: `sign ${name}`, title: name }, `${sign} ${text(incident.verdict)}`), make('span', { className: 'how' }, `${name}, ${count(sockets, 'socket')}`)),
      make('span', { className: 'when' }, `${moment(incident.span[0])}${incident.span[1] > incident.span[0] ? ` + ${duration(incident.span[1] - incident.span[0])}` : ''}`),
      make('span', { className: 'whom' }, `${process(incident)} ${place(incident)} · ${text(incident.host)}`),
      make('span', { className: 'sentence' }, text(incident.summary)));
    button.ariaPressed = filter.incident === number ? 'true' : 'false';
    const advice = incident.advice.length ? [make('details', {}, make('summary', {}, 'What to change'), list('ol', incident.advice))] : [];
    return make('li', {}, button, ...advice);
  });
  const rest = data.incidents.length - items.length;
  const more = rest > 0 ? [make('button', { type: 'button', onclick: () => tellIncidents(shown + 500) }, `${rest} more`)] : [];
  section.replaceChildren(make('h2', {}, 'Incidents'), make('ol', {}, ...items), ...more);
}

function chooseIncident(number) {
  filter.incident = filter.incident === number ? undefined : number;
  for (const [place, button] of document.querySelectorAll('.incident').entries()) button.ariaPressed = place === filter.incident ? 'true' : 'false';
  applyFilters();
  if (filter.incident !== undefined && trouble()) frame(trouble());
  redraw();
}

// The values of one field of all stories, with how many have each, most first.
function fill(select, all, values, name) {
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  const sorted = [...counts].sort((a, b) => b[1] - a[1]);
  select.replaceChildren(make('option', { value: '' }, all), ...sorted.map(([value, number]) => make('option', { value }, `${name(value)} (${number})`)));
}

function applyFilters() {
  Object.assign(filter, {
    process: find('by-process').value, place: find('by-place').value, verdict: find('by-verdict').value,
    host: find('by-host').value, words: find('by-text').value.trim().toLowerCase(),
  });
  filter.isWindowOnly = find('by-window').checked;
  lanes.scrollTop = 0;
  refilter();
  redraw();
}
function refilter() {
  const chosen = visible.stories[visible.chosen];
  choose(find('order').value);
  const at = chosen ? visible.stories.indexOf(chosen) : -1;
  visible.chosen = at >= 0 ? at : undefined;
  find('count').textContent = `${visible.stories.length.toLocaleString('en')} of ${count(data.stories.length, 'lane')}`;
  find('nothing').hidden = visible.stories.length > 0;
  find('nothing').textContent = data.stories.length ? 'No socket passes the filters.' : 'No socket was in trouble in what was read: there is nothing to draw.';
}
function clearFilters() {
  filter.incident = undefined;
  find('by-window').checked = false;
  for (const id of ['by-process', 'by-place', 'by-verdict', 'by-host', 'by-text']) find(id).value = '';
  tellIncidents();
  applyFilters();
}

function tellLegend() {
  const sign = (words, paint) => {
    const canvas = make('canvas', { className: 'sample' });
    return { canvas, paint, element: make('li', {}, canvas, words) };
  };
  const verdict = (more) => ({ name: 0, told: [[0]], ...more });
  const place = (name) => data.strings.indexOf(name);
  const critical = place('critical') >= 0 ? 'critical' : 'warning';
  const bands = [
    ['verdict that closed', (c) => drawVerdict(c, verdict({ severity: place(critical), opened: 0, closed: 1, outcome: 0 }), 6, 44, 9, 5)],
    ['verdict that closed well', (c) => drawVerdict(c, verdict({ severity: place(critical), opened: 0, closed: 1, outcome: 0, is_good: true }), 6, 44, 9, 5)],
    ['verdict still open at the end', (c) => drawVerdict(c, verdict({ severity: place(critical), opened: 0 }), 6, 40, 9, 5)],
    ['final verdict: it died', (c) => drawDeath(c, 25, 11, palette.critical)],
  ];
  bands.push(['nobody watched', (c) => drawHatch(c, -1, palette.mark, 0.5, 4, 1, 44, 20)],
    ['its trouble is earlier or later than what is shown', (c) => { c.fillStyle = palette.ink; polygon([-4, 0], [4, -5], [4, 5])(c, 16, 11); c.fill(); polygon([4, 0], [-4, -5], [-4, 5])(c, 36, 11); c.fill(); }]);
  const states = Object.keys(STATES).map((state) => [state, (c) => drawState(c, state, 4, 4, 44, 13)]);
  const signs = [...Object.entries(MARKS).map(([name, mark]) => [mark.label, (c) => drawMark(c, name, 25, 11)]), ...bands, ...states]
    .map(([words, paint]) => sign(words, paint));
  const keys = '↑ ↓ choose a socket · Enter its timeline · ← → earlier, later · + − zoom · 0 all of the time · t zoom to trouble · Esc close. '
    + 'Pointer: drag over the lanes to zoom in, drag the axis to move, wheel over the axis or Ctrl and wheel over the lanes to zoom, double click for all of the time.';
  find('signs').replaceChildren(make('ul', {}, ...signs.map(({ element }) => element)), make('p', { className: 'caption' }, keys));
  for (const { canvas, paint } of signs) paint(prepare(canvas).context);
}

const seeTrouble = () => { frame(trouble() ?? whole); redraw(); };
const seeAll = () => { show(...limits); redraw(); };
const KEYS = {
  ArrowLeft: () => pan(-0.2), ArrowRight: () => pan(0.2), '+': () => zoom(0.6), '=': () => zoom(0.6), '-': () => zoom(1 / 0.6),
  0: seeAll, t: seeTrouble,
  ArrowDown: () => move(1), ArrowUp: () => move(-1), PageDown: () => move(pageful()), PageUp: () => move(-pageful()),
  Home: () => move(-Infinity), End: () => move(Infinity), Enter: () => openLane(visible.chosen ?? 0),
};
const pageful = () => Math.max(1, Math.floor(lanes.clientHeight / ROW) - 1);
function move(by) {
  const last = visible.stories.length - 1, from = visible.chosen ?? (by > 0 ? -1 : 0);
  if (last < 0) return;
  visible.chosen = Math.min(Math.max(from + by, 0), last);
  const top = visible.chosen * ROW;
  if (top < lanes.scrollTop) lanes.scrollTop = top;
  if (top + ROW > lanes.scrollTop + lanes.clientHeight) lanes.scrollTop = top + ROW - lanes.clientHeight;
  if (!detail.hidden) openStory(visible.stories[visible.chosen]);
}

function listen() {
  for (const id of ['by-process', 'by-place', 'by-verdict', 'by-host', 'by-window', 'order']) find(id).addEventListener('change', applyFilters);
  find('by-text').addEventListener('input', applyFilters);
  find('filters').addEventListener('submit', (event) => event.preventDefault());
  const buttons = { clear: clearFilters, trouble: seeTrouble, all: seeAll, in: KEYS['+'], out: KEYS['-'], left: KEYS.ArrowLeft, right: KEYS.ArrowRight };
  for (const [id, act] of Object.entries(buttons)) find(id).addEventListener('click', () => { act(); redraw(); });
  lanes.addEventListener('keydown', (event) => {
    const act = event.ctrlKey || event.metaKey || event.altKey ? undefined : KEYS[event.key];
    if (!act) return;
    event.preventDefault();
    act();
    redraw();
  });
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && !detail.hidden) closeStory();
  });
  new ResizeObserver(redraw).observe(lanes);
  find('legend').addEventListener('toggle', tellLegend);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { readPalette(); tellLegend(); redraw(); });
}

readPalette();
tellSummary();
tellSources();
tellIncidents();
const fields = (name) => data.stories.map((story) => story[name]).filter((value) => value !== undefined);
fill(find('by-process'), 'all', fields('process'), text);
fill(find('by-place'), 'all', fields('place'), text);
fill(find('by-verdict'), 'all', data.stories.flatMap((story) => [...story.names]), text);
fill(find('by-host'), 'all', fields('host'), (name) => name);
find('host-label').hidden = new Set(fields('host')).size < 2;
listen();
applyFilters();
// Where trouble is a small part of the time, that part is what one came for.
const struck = trouble();
if (struck && (struck[1] - struck[0]) * 2 < whole[1] - whole[0]) frame(struck);
document.documentElement.dataset.ready = 'yes';
redraw();
