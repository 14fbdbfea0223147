
// The window of time that is shown, from where to where on the screen, and the marks of its axis.

const NARROWEST = 2 * MILLISECOND;
const margin = (from, until) => Math.max((until - from) * 0.04, NARROWEST);
const limits = [whole[0] - margin(...whole), whole[1] + margin(...whole)];
const view = { from: limits[0], until: limits[1], width: 1 };

const xOf = (at) => ((at - view.from) / (view.until - view.from)) * view.width;
const timeAt = (x) => view.from + (x / view.width) * (view.until - view.from);

// Shows as much of what is asked for as there is.
function show(from, until) {
  const all = limits[1] - limits[0];
  const length = Math.min(Math.max(until - from, NARROWEST), all);
  const middle = (from + until) / 2;
  view.from = Math.min(Math.max(middle - length / 2, limits[0]), limits[1] - length);
  view.until = view.from + length;
}
// Zooms by a factor and leaves the time at `x` where it is.
function zoom(factor, x = view.width / 2) {
  const at = timeAt(x), length = (view.until - view.from) * factor;
  const from = at - (x / view.width) * length;
  show(from, from + length);
}
function pan(part) {
  const by = (view.until - view.from) * part;
  show(view.from + by, view.until + by);
}
// Shows a span with some time around it, so that one sees what came before.
function frame([from, until]) {
  const before = Math.max((until - from) * 0.15, SECOND / 2);
  show(from - before, until + before);
}

const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500].map((ms) => ms * MILLISECOND)
  .concat([1, 2, 5, 10, 15, 30].map((s) => s * SECOND), [1, 2, 5, 10, 15, 30].map((min) => min * MINUTE))
  .concat([1, 2, 3, 6, 12].map((h) => h * HOUR), [1, 2, 7, 14, 28, 91, 364, 3640].map((d) => d * DAY));

// Marks at round times of the clock, at least `apart` pixels from each other.
function ticks(from, until, width, apart) {
  const step = STEPS.find((step) => (step / (until - from)) * width >= apart) ?? STEPS[STEPS.length - 1];
  const base = (data.base_ms * MILLISECOND) % step;
  const marks = [];
  for (let at = Math.ceil((from + base) / step) * step - base; at <= until && marks.length < 1000; at += step) {
    marks.push({ at, label: tickLabel(at, step), isDay: clock(at) === '00:00:00.000' });
  }
  return marks;
}
function tickLabel(at, step) {
  if (step >= DAY || clock(at) === '00:00:00.000') return day(at);
  if (step >= MINUTE) return clock(at).slice(0, 5);
  return step >= SECOND ? clock(at).slice(0, 8) : clock(at);
}
