
// The lanes: one for each socket that the filters let through, of which only those in sight are drawn.

const ROW = 30;
const lanes = find('lanes'), spacer = find('spacer'), stage = find('stage'), rows = find('rows'), bars = find('bars');
const overview = find('overview'), axis = find('axis'), tip = find('tip');
const filter = { process: '', place: '', verdict: '', host: '', words: '', incident: undefined, isWindowOnly: false };
const visible = { passing: [], parts: {}, stories: [], chosen: undefined, marks: [] };
// The labels in sight. One that stays in sight stays the same element: it may be just being clicked.
const labels = new Map();

const matches = (story) =>
  (filter.process === '' || story.process === +filter.process)
  && (filter.place === '' || story.place === +filter.place)
  && (filter.verdict === '' || story.names.has(+filter.verdict))
  && (filter.host === '' || story.host === filter.host)
  && (filter.incident === undefined || story.incidents.has(filter.incident))
  && filter.words.split(/\s+/).every((word) => story.words.includes(word));

const isInWindow = (story) => story.trouble[0] <= view.until && story.trouble[1] >= view.from;

const ORDERS = {
  trouble: (a, b) => a.trouble[0] - b.trouble[0],
  harm: (a, b) => harm(a) - harm(b),
  owner: (a, b) => known(a.owner).localeCompare(known(b.owner)),
  place: (a, b) => known(a.place).localeCompare(known(b.place)),
  birth: (a, b) => a.span[0] - b.span[0],
};
const harm = (story) => (story.gravest ? severity(text(story.gravest.severity)).rank : 9);

// What the filters let through, in the order that is asked for; the two ends of a connection stand together.
function choose(order) {
  visible.passing = data.stories.filter(matches);
  const wanted = filter.isWindowOnly ? visible.passing.filter(isInWindow) : [...visible.passing];
  const sorted = wanted.sort((a, b) => ORDERS[order](a, b) || a.number - b.number);
  countVerdicts();
  const through = new Set(sorted), placed = new Set();
  visible.stories = [];
  for (const story of sorted) {
    for (const end of [story, data.stories[story.other_end]]) {
      if (end && through.has(end) && !placed.has(end)) {
        placed.add(end);
        visible.stories.push(end);
      }
    }
  }
}
const trouble = () => around(visible.passing.map((story) => story.trouble));

let isDue = false;
function redraw() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    draw();
  });
}

function draw() {
  if (filter.isWindowOnly) refilter();
  find('window').textContent = `${span(view.from, view.until)} UTC · ${duration(view.until - view.from)}`;
  spacer.style.height = `${Math.max(visible.stories.length * ROW, lanes.clientHeight)}px`;
  stage.style.height = `${lanes.clientHeight}px`;
  view.width = bars.clientWidth || 1;
  drawOverview();
  drawAxis();
  drawLanes();
}

function drawAxis() {
  const { context, width, height } = prepare(axis);
  context.textBaseline = 'middle';
  for (const { at, label, isDay } of ticks(view.from, view.until, width, 110)) {
    context.fillStyle = isDay ? palette.ink : palette.faint;
    context.fillRect(xOf(at), 0, 1, 6);
    context.textAlign = xOf(at) < 36 ? 'left' : xOf(at) > width - 36 ? 'right' : 'center';
    context.fillText(label, xOf(at), height / 2 + 3);
  }
}

// How many verdicts of the stories that pass the filters began in each part of all the time, by severity.
const PARTS = 300;
const partAt = (at) => Math.floor(((at - limits[0]) / (limits[1] - limits[0])) * PARTS);
function countVerdicts() {
  visible.parts = {};
  for (const story of visible.passing) {
    for (const verdict of story.verdicts) {
      const part = visible.parts[partAt(verdict.told[0][0])] ??= { critical: 0, warning: 0, info: 0 };
      part[text(verdict.severity)]++;
    }
  }
}

// All of the time in one strip: where verdicts began, and which part of it is in the window.
function drawOverview() {
  const { context, width, height } = prepare(overview);
  const scale = width / (limits[1] - limits[0]), wide = width / PARTS;
  const most = Math.max(1, ...Object.values(visible.parts).map((it) => it.critical + it.warning + it.info));
  for (const [place, numbers] of Object.entries(visible.parts)) {
    let y = height;
    for (const name of ['critical', 'warning', 'info']) {
      // A single one among thousands is to be seen too.
      const part = numbers[name] && Math.max(4, (Math.log1p(numbers[name]) / Math.log1p(most)) * (height - 12));
      context.fillStyle = palette[name];
      context.fillRect(place * wide, y - part, Math.max(wide, 3), part);
      y -= part;
    }
  }
  const [from, until] = [view.from, view.until].map((at) => (at - limits[0]) * scale);
  context.fillStyle = palette.ink;
  context.globalAlpha = 0.1;
  context.fillRect(0, 0, from, height);
  context.fillRect(until, 0, width, height);
  context.globalAlpha = 1;
  context.strokeStyle = palette.chosen;
  context.lineWidth = 2;
  context.strokeRect(from, 1, Math.max(until - from, 3), height - 2);
}

function drawLanes() {
  const top = lanes.scrollTop, first = Math.floor(top / ROW);
  const last = Math.min(visible.stories.length, Math.ceil((top + lanes.clientHeight) / ROW));
  const { context, width, height } = prepare(bars);
  visible.marks = [];
  context.fillStyle = palette.line;
  for (const { at } of ticks(view.from, view.until, width, 110)) context.fillRect(xOf(at), 0, 1, height);
  placeLabels(first, last, top);
  for (let place = first; place < last; place++) {
    const story = visible.stories[place], y = place * ROW - top;
    context.fillStyle = palette.line;
    context.fillRect(0, y + ROW - 1, width, 1);
    if (place === visible.chosen) {
      context.globalAlpha = 0.12;
      context.fillStyle = palette.chosen;
      context.fillRect(0, y, width, ROW - 1);
      context.globalAlpha = 1;
    }
    drawLane(context, story, y, width);
  }
  drawSelection(context, height);
  const chosen = visible.chosen >= first && visible.chosen < last ? `lane-${visible.stories[visible.chosen].number}` : '';
  lanes.setAttribute('aria-activedescendant', chosen);
}

function drawLane(context, story, y, width) {
  const within = (at) => Math.min(Math.max(xOf(at), -20), width + 20);
  for (const [from, until] of data.runs[story.run]?.gaps ?? []) {
    drawHatch(context, -1, palette.mark, 0.5, within(from), y, within(until) - within(from), ROW - 1);
    remember(story, y, within(from), within(until), `nobody watched from ${clock(from)} to ${clock(until)}`);
  }
  const marks = story.entries.filter(([, what]) => MARKS[text(what)]).map(([at]) => xOf(at));
  const isFree = (a, b) => !marks.some((x) => x > a - 6 && x < b + 6);
  context.fillStyle = palette.mark;
  context.fillRect(within(story.span[0]), y + 10, within(story.span[1]) - within(story.span[0]), 1);
  for (const [from, until, state] of story.bars) {
    const [x, end] = [within(from), within(until)];
    if (end < 0 || x > width) continue;
    drawState(context, text(state), x, y + 4, end - x, 13, isFree);
    remember(story, y, x, end, `${text(state)} from ${clock(from)} to ${clock(until)}, ${duration(until - from)}`);
  }
  for (const verdict of story.verdicts.filter((verdict) => !isFinal(verdict))) {
    const [at] = verdict.told[0], until = isOpen(verdict) ? endOf(story) : verdict.closed;
    const [x, end] = [within(at), within(until)];
    if (end < -15 || x > width + 15) continue;
    drawVerdict(context, verdict, x, end, y + 21, 5);
    remember(story, y, x - 6, end + 8, describe(verdict), 17);
  }
  for (const [at, what, details] of story.entries) {
    const x = xOf(at);
    if (x < -10 || x > width + 10 || !MARKS[text(what)]) continue;
    drawMark(context, text(what), x, y + 10);
    remember(story, y, x - 5, x + 5, `${clock(at)} ${text(what)}: ${text(details)}`);
  }
  for (const verdict of story.verdicts.filter(isFinal)) {
    const x = within(verdict.closed);
    drawDeath(context, x, y + ROW / 2, palette[text(verdict.severity)] ?? palette.info);
    remember(story, y, x - 8, x + 8, describe(verdict), 1);
  }
  // Trouble that lies outside of the window.
  context.fillStyle = palette.ink;
  if (story.trouble[1] < view.from) polygon([-4, 0], [4, -5], [4, 5])(context, 8, y + ROW / 2);
  else if (story.trouble[0] > view.until) polygon([4, 0], [-4, -5], [-4, 5])(context, width - 8, y + ROW / 2);
  else return;
  context.fill();
}
const describe = (verdict) =>
  `${severity(text(verdict.severity)).sign} ${text(verdict.name)}, ${ending(verdict)}: ${text(verdict.told[verdict.told.length - 1][2])}`;

// What lies where, for the pointer. What is drawn last lies on top.
function remember(story, y, from, until, words, below = 0) {
  visible.marks.push({ y: y + below, bottom: y + (below ? ROW : 20), from, until, words });
}

function placeLabels(first, last, top) {
  const inSight = new Set(visible.stories.slice(first, last));
  for (const [story, element] of labels) {
    if (!inSight.has(story)) {
      element.remove();
      labels.delete(story);
    }
  }
  for (let place = first; place < last; place++) {
    const story = visible.stories[place];
    if (!labels.has(story)) {
      labels.set(story, label(story));
      rows.append(labels.get(story));
    }
    const element = labels.get(story);
    element.ariaSelected = place === visible.chosen ? 'true' : 'false';
    element.dataset.place = place;
    element.style.transform = `translateY(${place * ROW - top}px)`;
  }
}

function label(story) {
  const { sign } = story.gravest ? severity(text(story.gravest.severity)) : { sign: '' };
  const name = story.gravest ? text(story.gravest.severity) : '';
  const pair = story.other_end === undefined ? [] : [make('span', { className: 'pair', title: 'The other end was recorded too' }, '⇄')];
  const hosts = new Set(data.runs.map((run) => run.host)).size > 1 ? [make('span', { className: 'host' }, story.host)] : [];
  return make('div', { className: 'lane', id: `lane-${story.number}`, role: 'option', title: `${story.host}  ${title(story)}` },
    make('span', { className: `sign ${name}`, title: name }, sign),
    make('span', { className: 'who' }, make('span', { className: 'owner' }, known(story.owner)), ...pair, ...hosts),
    make('span', { className: 'ends' }, endsOf(story)));
}

// Dragging over the lanes or the strip chooses a span; over the axis it moves the window.
const drag = { on: undefined, from: 0, to: 0, at: 0 };
function drawSelection(context, height) {
  if (drag.on !== bars || Math.abs(drag.to - drag.from) < 4) return;
  context.globalAlpha = 0.2;
  context.fillStyle = palette.chosen;
  context.fillRect(Math.min(drag.from, drag.to), 0, Math.abs(drag.to - drag.from), height);
  context.globalAlpha = 1;
}
function startDrag(event) {
  if (event.button !== 0) return;
  Object.assign(drag, { on: event.currentTarget, from: event.offsetX, to: event.offsetX, at: view.from });
  event.currentTarget.setPointerCapture(event.pointerId);
}
function goOnDragging(event) {
  if (!drag.on) return;
  if (drag.on === axis) pan((drag.to - event.offsetX) / view.width);
  drag.to = event.offsetX;
  redraw();
}
function endDrag(event) {
  const { on, from, to } = drag;
  drag.on = undefined;
  if (!on) return;
  const [a, b] = [Math.min(from, to), Math.max(from, to)], isClick = b - a < 4;
  if (on === bars && isClick) openLane(Math.floor((event.offsetY + lanes.scrollTop) / ROW));
  else if (on === bars) show(timeAt(a), timeAt(b));
  else if (on === overview) {
    const time = (x) => limits[0] + (x / overview.clientWidth) * (limits[1] - limits[0]), half = (view.until - view.from) / 2;
    show(isClick ? time(a) - half : time(a), isClick ? time(a) + half : time(b));
  }
  redraw();
}
for (const canvas of [bars, axis, overview]) {
  canvas.addEventListener('pointerdown', startDrag);
  canvas.addEventListener('pointermove', goOnDragging);
  canvas.addEventListener('pointerup', endDrag);
  canvas.addEventListener('pointercancel', () => { drag.on = undefined; });
  canvas.addEventListener('dblclick', () => { show(...limits); redraw(); });
  canvas.addEventListener('wheel', (event) => {
    const isSideways = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
    // Without a key the wheel over the lanes scrolls them.
    if (canvas === bars && !isSideways && !event.ctrlKey && !event.metaKey && !event.altKey) return;
    event.preventDefault();
    if (isSideways) pan((event.deltaX || event.deltaY) / 1000);
    else zoom(Math.exp(event.deltaY / 400), canvas === overview ? view.width / 2 : event.offsetX);
    redraw();
  }, { passive: false });
}

bars.addEventListener('pointermove', (event) => {
  const { offsetX: x, offsetY: y } = event;
  const mark = visible.marks.findLast((mark) => x >= mark.from && x <= mark.until && y >= mark.y && y < mark.bottom);
  tip.hidden = !mark || Boolean(drag.on);
  if (tip.hidden) return;
  tip.textContent = mark.words;
  tip.style.left = `${Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${Math.min(event.clientY + 16, window.innerHeight - tip.offsetHeight - 8)}px`;
});
bars.addEventListener('pointerleave', () => { tip.hidden = true; });
rows.addEventListener('click', (event) => {
  const lane = event.target.closest('.lane');
  if (lane) openLane(+lane.dataset.place);
});
lanes.addEventListener('scroll', redraw);
