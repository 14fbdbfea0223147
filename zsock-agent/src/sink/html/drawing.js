
// Signs on the canvas. Each has a shape of its own: colour only helps.

const palette = {};
function readPalette() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ['ground', 'ink', 'faint', 'line', 'critical', 'warning', 'info', 'good', 'mark', 'chosen',
    'open', 'opening', 'closing', 'waiting', 'listening', 'unknown']) {
    palette[name] = style.getPropertyValue(`--${name}`).trim();
  }
}

// A canvas as sharp as the screen; gives its context, and its size in CSS pixels.
function prepare(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas, ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = '11px system-ui, sans-serif';
  context.lineWidth = 1;
  return { context, width, height };
}

const STATES = {
  ESTABLISHED: { colour: 'open', hatch: 0 },
  SYN_SENT: { colour: 'opening', hatch: 1 }, SYN_RECV: { colour: 'opening', hatch: 1 }, NEW_SYN_RECV: { colour: 'opening', hatch: 1 },
  FIN_WAIT1: { colour: 'closing', hatch: -1 }, FIN_WAIT2: { colour: 'closing', hatch: -1 }, CLOSING: { colour: 'closing', hatch: -1 },
  LAST_ACK: { colour: 'closing', hatch: -1 }, TIME_WAIT: { colour: 'closing', hatch: -1 },
  CLOSE_WAIT: { colour: 'waiting', hatch: 2 },
  LISTEN: { colour: 'listening', hatch: 0 },
};
const UNKNOWN_STATE = { colour: 'unknown', hatch: 0 };

// A bar of one state: filled, hatched by what kind of state it is, and with its name where there is room that nothing else is drawn on.
function drawState(context, state, x, y, width, height, isFree = () => true) {
  const { colour, hatch } = STATES[state] ?? UNKNOWN_STATE;
  context.fillStyle = palette[colour];
  context.fillRect(x, y, Math.max(width, 1), height);
  if (width > 3 && hatch) drawHatch(context, hatch, palette.ground, 0.55, x, y, width, height);
  const room = context.measureText(state).width + 10, left = Math.max(x, 0);
  if (x + width - left > room && isFree(left, left + room)) {
    if (hatch) {
      context.fillStyle = palette[colour];
      context.fillRect(left, y, room, height);
    }
    context.fillStyle = palette.ground;
    context.textBaseline = 'middle';
    context.textAlign = 'left';
    context.fillText(state, left + 5, y + height / 2 + 0.5);
  }
}
// Strokes that rise (1) or fall (-1), or dots (2).
function drawHatch(context, hatch, colour, alpha, x, y, width, height) {
  context.save();
  context.beginPath();
  context.rect(x, y, width, height);
  context.clip();
  context.strokeStyle = colour;
  context.globalAlpha = alpha;
  context.lineWidth = hatch === 2 ? 2 : 1;
  context.beginPath();
  for (let at = x - height - ((x - height) % 6); at < x + width + height; at += 6) {
    if (hatch === 2) { context.moveTo(at, y + height / 2); context.lineTo(at + 2, y + height / 2); }
    else { context.moveTo(at, hatch > 0 ? y + height : y); context.lineTo(at + height, hatch > 0 ? y : y + height); }
  }
  context.stroke();
  context.restore();
}

const polygon = (...points) => (c, x, y) => {
  c.beginPath();
  points.forEach(([dx, dy]) => c.lineTo(x + dx, y + dy));
  c.closePath();
};
const triangle = polygon([0, -6], [5, 4], [-5, 4]), diamond = polygon([0, -6], [5, 0], [0, 6], [-5, 0]);
const square = polygon([-4, -4], [4, -4], [4, 4], [-4, 4]);
const arrowIn = polygon([-6, 0], [2, -6], [2, -2], [6, -2], [6, 2], [2, 2], [2, 6]);
const arrowOut = polygon([6, 0], [-2, -6], [-2, -2], [-6, -2], [-6, 2], [-2, 2], [-2, 6]);
const circle = (c, x, y, r = 4) => { c.beginPath(); c.arc(x, y, r, 0, 2 * Math.PI); };
const cross = (c, x, y, r = 4) => { c.beginPath(); c.moveTo(x - r, y - r); c.lineTo(x + r, y + r); c.moveTo(x + r, y - r); c.lineTo(x - r, y + r); };
const stroke = (c, x, y) => { c.beginPath(); c.moveTo(x, y - 8); c.lineTo(x, y + 8); };

// What happens to sockets, by the name of its record. Those without a sign are told by the bars.
const MARKS = {
  retransmit: { path: triangle, colour: 'warning', fills: true, label: 'segment sent again' },
  keepalive: { path: diamond, colour: 'info', fills: false, label: 'keepalive probe' },
  keepalive_answered: { path: diamond, colour: 'good', fills: true, label: 'keepalive probe answered' },
  zero_window_probe: { path: square, colour: 'info', fills: false, label: 'probe of a closed window' },
  progress: { path: circle, colour: 'good', fills: true, label: 'acknowledged after all' },
  error: { path: cross, colour: 'critical', fills: false, label: 'error' },
  reset_received: { path: arrowIn, colour: 'critical', fills: true, label: 'reset received' },
  reset_sent: { path: arrowOut, colour: 'critical', fills: true, label: 'reset sent' },
  accept_failed: { path: (c, x, y) => { square(c, x, y); c.moveTo(x - 4, y + 4); c.lineTo(x + 4, y - 4); }, colour: 'critical', fills: false, label: 'accept failed' },
  closed: { path: stroke, colour: 'ink', fills: false, label: 'closed: TCP is done with it' },
  sample: { path: (c, x, y) => circle(c, x, y, 2), colour: 'mark', fills: true, label: 'a look at it, or what the kernel remembered' },
};

function drawMark(context, name, x, y) {
  const mark = MARKS[name];
  if (!mark) return;
  // A rim of the ground keeps marks apart from the bar below and from each other.
  context.lineJoin = 'round';
  mark.path(context, x, y);
  context.strokeStyle = palette.ground;
  context.lineWidth = mark.fills ? 3 : 4;
  context.stroke();
  mark.path(context, x, y);
  context.fillStyle = mark.fills ? palette[mark.colour] : palette.ground;
  if (name !== 'error' && name !== 'closed') context.fill();
  context.strokeStyle = palette[mark.colour];
  context.lineWidth = mark.fills ? 1 : 2;
  context.stroke();
  context.lineWidth = 1;
}

// A verdict: a band from its opening to its end, with an arrow where it is open still, a disc where it ended well, a brace otherwise.
function drawVerdict(context, verdict, x, until, y, height) {
  context.fillStyle = palette[text(verdict.severity)] ?? palette.info;
  context.fillRect(x, y, Math.max(until - x, 3), height);
  context.fillRect(x, y - 3, 2, height + 6);
  if (isOpen(verdict)) polygon([9, 0], [0, -6], [0, 6])(context, until, y + height / 2);
  else if (verdict.is_good) { context.fillStyle = palette.good; circle(context, until, y + height / 2, 4); }
  else polygon([2, -6], [2, 6], [-1, 6], [-1, -6])(context, until, y + height / 2);
  context.fill();
}
// A final verdict: the largest sign of all, for it is what one looks for first.
function drawDeath(context, x, y, colour) {
  circle(context, x, y, 8);
  context.fillStyle = colour;
  context.strokeStyle = palette.ground;
  context.lineWidth = 2;
  context.stroke();
  context.fill();
  cross(context, x, y, 3.5);
  context.stroke();
  context.lineWidth = 1;
}
