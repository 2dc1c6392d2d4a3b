// The lab's page: it fetches the state twice a second and shows it, and sends a
// command for each button. It decides nothing.
'use strict';

const POLL = 500; // ms between two requests for the state
const PATIENCE = 4000; // ms after which a request is lost
const HISTORY = 300; // seconds shown at most
const SHORTEST = 20; // seconds of the time axis at least
const SHORT = 0.3; // seconds: a shorter slice has no rate of its own
const EVENTS = 14; // shown
const NARROW = 600; // px of a chart with short labels

// The lines of the chart in the order in which they are drawn.
const LINES = [
  { name: 'asked', label: 'requested', short: 'requested', width: 1.5 },
  { name: 'open', label: 'fail open', short: 'open', width: 1.5, note: 'admits all in an outage' },
  { name: 'private', label: 'private full limit', short: 'private', width: 1.5, note: 'in an outage, per process' },
  { name: 'closed', label: 'fail closed', short: 'closed', width: 1.5, note: 'admits none in an outage' },
  { name: 'admitted', label: 'this limiter', short: 'this limiter', width: 3.5, note: 'each process keeps its share' },
  { name: 'limit', label: 'limit', short: 'limit', width: 1.5, dash: [6, 4] }, // on top: a line at the limit would hide it
];

// The rows of the table.
const ROWS = ['asked', 'admitted', 'limit', 'open', 'closed', 'private', 'waiting'];

// The order of the labels at the lines' ends, from the top, where lines meet.
const ENDS = ['asked', 'open', 'private', 'admitted', 'limit', 'closed'];

// Texts that depend on the kind of calls.
const WORDS = {
  allow: {
    asked: 'requested',
    rate: 'admitted of requested, /s',
    room: 'tokens here',
    explained: 'Tokens here: this process could admit as many at once.',
    others: '',
  },
  wait: {
    asked: 'without a limit',
    rate: 'admitted, /s',
    room: 'waiting',
    explained: 'Waiting: callers in Wait.',
    others: ' Each worker waits for a token, works for 10 ms, and waits again. The other ways have no Wait:'
      + ' their workers call Allow, and pause for 10 ms after a denial.',
  },
};

const $ = (id) => document.getElementById(id);

// setText changes an element only if its text differs: a screen reader reads
// every change of a live region.
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

const number = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

function clock(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, '0')}`;
}

// The known part of the run.
let state = null;
let first = 0; // number of the first of slices
let slices = []; // in order, without gaps
let lost = true; // true if the last request was not answered
let points = []; // of the chart, see pointsOf
let hovered = null; // index of the point under the pointer

// merge adds an answer to the known part.
function merge(answer) {
  if (!state || answer.first > first + slices.length) {
    first = answer.first;
    slices = [];
  }
  slices.push(...answer.slices.slice(first + slices.length - answer.first));
  const oldest = answer.now - HISTORY;
  const drop = slices.findIndex((s) => s.to > oldest);
  if (drop > 0) {
    slices = slices.slice(drop);
    first += drop;
  }
  state = answer;
  points = pointsOf(pieces());
}

// edge reports whether an outage begins or ends at a time.
function edge(at) {
  return state.outages.some((o) => o.from === at || (!o.on && o.to === at));
}

// pieces returns the slices, each shorter one joined to a neighbour on the same
// side of an outage's edge.
function pieces() {
  const list = [];
  let begun = null; // a short piece to be joined to the next slice
  for (const slice of slices) {
    const piece = begun ? join(begun, slice) : slice;
    begun = null;
    if (piece.to - piece.from >= SHORT || (edge(piece.from) && edge(piece.to))) list.push(piece);
    else if (list.length > 0 && !edge(piece.from)) list.push(join(list.pop(), piece));
    else begun = piece;
  }
  return list;
}

function join(a, b) {
  const sum = { from: a.from, to: b.to };
  for (const key of Object.keys(a)) if (!(key in sum)) sum[key] = a[key] + b[key];
  return sum;
}

// pointsOf returns the points of the chart: the middle of each piece, and both
// sides of an outage's edge, at which all lines jump.
function pointsOf(list) {
  const result = [];
  list.forEach((piece, i) => {
    if (i === 0 || edge(piece.from)) result.push({ at: piece.from, piece });
    result.push({ at: (piece.from + piece.to) / 2, piece });
    if (i === list.length - 1 || edge(piece.to)) result.push({ at: piece.to, piece });
  });
  return result;
}

// rate returns a line's tokens per second in a piece.
function rate(name, piece) {
  return name === 'limit' ? state.limit.rate : piece[name] / (piece.to - piece.from);
}

// latest returns a line's tokens per second in the last second.
function latest(name) {
  return points.length > 0 ? rate(name, points.at(-1).piece) : 0;
}

async function ask() {
  const from = state ? first + slices.length : 0;
  const response = await fetch(`state?from=${from}`, { signal: AbortSignal.timeout(PATIENCE) });
  if (!response.ok) throw new Error(await response.text());
  const answer = await response.json();
  if (state && state.run !== answer.run) {
    state = null; // another run: the request continued the last one
    return ask();
  }
  merge(answer);
}

async function poll() {
  try {
    await ask();
    lost = false;
  } catch {
    lost = true;
  }
  show();
  setTimeout(poll, POLL);
}

// send sends a button's command, and shows the answer.
async function send(button) {
  if (lost) {
    say('Not connected to the lab: nothing was done.', true);
    return;
  }
  const { do: name, process, load, demand, calls } = button.dataset;
  const form = new URLSearchParams({ do: name });
  if (process) form.set('process', process);
  if (load) form.set('load', load);
  if (demand) form.set('demand', demand);
  if (calls) form.set('calls', calls);
  try {
    const response = await fetch('do', { method: 'POST', body: form });
    const answer = await response.json();
    say(answer.said, !answer.done);
  } catch {
    say('The lab did not answer: it may or may not have been done.', true);
  }
}

function say(text, refused) {
  setText($('said'), text);
  $('said').classList.toggle('refused', refused);
}

document.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-do]');
  if (button) send(button);
});

// ---- the texts and tables

function show() {
  showStatus();
  showHint();
  showButtons();
  if (!state) return;
  setText($('about'), `All processes share one limit, ${state.limit.text}, through ${state.redis.what}. Each line of the chart is a way of rate limiting, fed the very same requests. Running for ${clock(state.now)}.`);
  showWords();
  showLines();
  showProcesses();
  showEvents();
  draw();
}

function showWords() {
  const words = WORDS[state.calls];
  for (const id of ['rate', 'room', 'explained', 'others']) setText($(id), words[id]);
}

const REDIS = {
  up: ['good', 'Redis answers.'],
  slow: ['warn', 'Redis is slow.'],
  frozen: ['bad', 'Redis is frozen: it does not answer.'],
  dead: ['bad', 'Redis is dead.'],
};

function showStatus() {
  const [kind, redis, fleet] = statusNow();
  const status = $('status');
  status.className = `card ${kind}`;
  const text = `${redis}\n${fleet}`;
  if (status.dataset.text === text) return;
  status.dataset.text = text;
  status.replaceChildren(make('b', '', redis), ' ', make('span', '', fleet));
}

function statusNow() {
  if (lost) {
    return ['lost', state ? 'Connection lost.' : 'No connection to the lab.', state
      ? 'The lab has ended, or can’t be reached. The page shows its last state, and tries again by itself.'
      : 'This page tries again by itself.'];
  }
  const [kind, redis] = REDIS[state.redis.mode];
  if (state.processes.length === 0) {
    return ['warn', redis, 'No process runs: nothing is requested or admitted.'];
  }
  return [kind, redis, fleetNow()];
}

// fleetNow counts the processes by their states.
function fleetNow() {
  const count = {};
  for (const p of state.processes) count[p.state] = (count[p.state] || 0) + 1;
  const parts = Object.entries(count).map(([name, n]) => `${n} ${name}`);
  const all = state.processes.length;
  let text = `Processes: ${parts.join(', ')}.`;
  if (count.degraded === all) text += ' Each goes on with its last share.';
  if (state.calls === 'wait') text += ` Callers waiting: ${number.format(waitingNow())}.`;
  return text;
}

// hint returns the step to try next, and the selector of its button if there is
// one.
function hint() {
  const { redis, outages, demand, calls, now } = state;
  const last = outages.at(-1);
  if (state.processes.length === 0) return ['Press Add a process.', '#add'];
  if (last?.on) {
    if (last.to - last.from < 5) return ['Watch the thick blue line, this limiter, stay at the limit. The others do not.'];
    if (calls === 'allow' && demand < 10) return ['Press 10×: the demand grows, the blue line stays at the limit.', '[data-demand="10"]'];
    return ['Press Restore: Redis comes back. Neither a burst nor a pause follows.', '[data-do="restore"]'];
  }
  if (!last) return ['Press Kill: Redis dies. Watch which lines stay at the limit.', '[data-do="kill"]'];
  if (now - last.to < 5) return ['Watch the blue line go on at the limit, and the processes become synced again.'];
  if (redis.mode === 'slow') return ['Slow answers change nothing but the age of a share. Press Restore.', '[data-do="restore"]'];
  if (outages.length === 1) return ['Press Freeze: Redis hangs and answers nothing, yet no caller waits for it.', '[data-do="freeze"]'];
  if (calls === 'allow') return ['Press Wait: callers queue for a token in place of a denial. Then kill Redis again.', '[data-calls="wait"]'];
  return ['Combine any buttons: kill Redis, move the load, stop processes, restore it.'];
}

function showHint() {
  const [text, selector] = state && !lost ? hint() : [''];
  const box = $('hint');
  box.hidden = text === '';
  if (box.dataset.text !== text) {
    box.dataset.text = text;
    box.replaceChildren(make('b', '', selector ? 'Try this next' : 'Now'), ' ', make('span', '', text));
  }
  for (const button of document.querySelectorAll('button[data-do]')) {
    button.classList.toggle('next', Boolean(selector) && button.matches(selector));
  }
}

function waitingNow() {
  return state.processes.reduce((sum, p) => sum + p.waiting, 0);
}

function showButtons() {
  document.body.classList.toggle('stale', lost);
  for (const button of document.querySelectorAll('button[data-do]')) {
    const { mode, load, demand, calls } = button.dataset;
    const idle = Boolean(state && demand && state.calls === 'wait'); // workers set their own demand
    const restored = button.dataset.do === 'restore' && state?.redis.mode === 'up';
    button.setAttribute('aria-disabled', String(lost || idle || restored));
    if (!state || !(mode || load || demand || calls)) continue;
    const pressed = mode ? mode === state.redis.mode
      : load ? load === state.load
      : calls ? calls === state.calls
      : !idle && Number(demand) === state.demand;
    button.setAttribute('aria-pressed', String(pressed));
  }
}

function showLines() {
  const body = $('lines').tBodies[0];
  if (body.rows.length === 0) {
    for (const name of ROWS) {
      const line = LINES.find((l) => l.name === name);
      const row = make('tr', name);
      const head = make('th');
      head.scope = 'row';
      head.append(make('span', '', line?.label ?? 'callers waiting'));
      if (line?.note) head.append(make('small', '', line.note));
      row.append(head, make('td'), make('td'));
      body.append(row);
    }
  }
  const point = points[hovered] ?? points.at(-1);
  setText($('when'), points[hovered] ? `at ${clock(point.piece.from)}` : 'last second');
  const outage = state.outages.at(-1);
  setText($('outage'), outageTitle(outage));
  ROWS.forEach((name, k) => {
    const cells = body.rows[k].cells;
    setText(cells[1], point ? number.format(rate(name, point.piece)) : '–');
    setText(cells[2], outage && outage.to > outage.from ? inOutage(name, outage) : '–');
  });
  setText(body.rows[ROWS.indexOf('asked')].cells[0].firstChild, WORDS[state.calls].asked);
  body.rows[ROWS.indexOf('waiting')].hidden = state.calls !== 'wait';
}

// inOutage returns the value of a line in an outage: times the limit, or the mean
// number of callers that wait.
function inOutage(name, outage) {
  if (name === 'waiting') return `${number.format(rate(name, outage))} on average`;
  return `${(rate(name, outage) / state.limit.rate).toFixed(2)} × limit`;
}

function outageTitle(outage) {
  if (!outage) return 'in an outage';
  return `${outage.on ? 'this' : 'last'} outage, ${clock(outage.to - outage.from)}`;
}

const rows = new Map(); // of the processes, by their numbers

function showProcesses() {
  const body = $('processes').tBodies[0];
  const seen = new Set(state.processes.map((p) => p.number));
  for (const [n, row] of rows) {
    if (seen.has(n)) continue;
    if (row.tr.contains(document.activeElement)) $('add').focus();
    row.tr.remove();
    rows.delete(n);
  }
  for (const p of state.processes) {
    if (!rows.has(p.number)) {
      rows.set(p.number, newRow(p.number));
      body.append(rows.get(p.number).tr);
    }
    fill(rows.get(p.number), p);
  }
  $('processes').hidden = state.processes.length === 0;
  $('nobody').hidden = state.processes.length > 0;
}

function newRow(n) {
  const tr = make('tr');
  tr.dataset.process = n;
  const head = make('th', '', String(n));
  head.scope = 'row';
  const share = make('td');
  const percent = make('span');
  const bar = make('span', 'bar');
  const filled = make('i');
  bar.append(filled);
  share.append(percent, bar);
  const rate = make('td');
  const room = make('td');
  const how = make('td');
  const stateText = make('span', 'state');
  const age = make('small');
  how.append(stateText, age);
  const last = make('td');
  const stop = make('button', '', 'Stop');
  stop.type = 'button';
  stop.dataset.do = 'stop';
  stop.dataset.process = n;
  stop.setAttribute('aria-label', `Stop process ${n}`);
  last.append(stop);
  tr.append(head, share, rate, room, how, last);
  return { tr, percent, filled, rate, room, stateText, age };
}

function fill(row, p) {
  const percent = `${number.format(100 * p.share)} %`;
  setText(row.percent, percent);
  row.filled.style.width = `${100 * p.share}%`;
  const waits = state.calls === 'wait';
  setText(row.rate, waits ? number.format(p.admitted) : `${number.format(p.admitted)} of ${number.format(p.asked)}`);
  setText(row.room, number.format(waits ? p.waiting : p.remaining));
  row.stateText.className = `state ${p.state}`;
  setText(row.stateText, p.state);
  setText(row.age, p.age < 0 ? 'none yet' : `${p.age.toFixed(1)} s ago`);
}

function showEvents() {
  const list = $('events');
  const events = state.events.slice(-EVENTS).reverse();
  const key = JSON.stringify(events);
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(...events.map((event) => {
    const item = make('li');
    item.append(make('time', '', clock(event.at)), make('span', '', event.text));
    return item;
  }));
}

// ---- the chart

let chart = null;

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// place returns the height of a rate in times the limit: v up to the limit,
// 1 + ln v above. So the lines near the limit keep their height at 10×.
function place(v) {
  return v <= 1 ? v : 1 + Math.log(v);
}

const TICKS = [0, 0.5, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000];

// times writes a rate in times the limit.
function times(v) {
  return v >= 9.95 ? `${number.format(v)}×` : `${v.toFixed(2)}×`;
}

function data() {
  const line = ({ name }) => points.map((p) => place(rate(name, p.piece) / state.limit.rate));
  return [points.map((p) => p.at), ...LINES.map(line)];
}

function draw() {
  if (!chart) chart = newChart();
  chart.setData(data());
}

// shade marks the outages behind the lines.
function shade(u) {
  const { left, top, width, height } = u.bbox;
  u.ctx.save();
  u.ctx.beginPath();
  u.ctx.rect(left, top, width, height);
  u.ctx.clip();
  u.ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
  u.ctx.textAlign = 'left';
  u.ctx.textBaseline = 'alphabetic';
  for (const { from, to } of state.outages) {
    const a = u.valToPos(from, 'x', true);
    const wide = Math.max(1, u.valToPos(to, 'x', true) - a);
    u.ctx.fillStyle = color('shade');
    u.ctx.fillRect(a, top, wide, height);
    const text = 'no Redis';
    if (u.ctx.measureText(text).width + 12 * devicePixelRatio > wide) continue;
    u.ctx.fillStyle = color('soft');
    u.ctx.fillText(text, a + 6 * devicePixelRatio, u.valToPos(0.2, 'y', true)); // no line is there
  }
  u.ctx.restore();
}

const narrow = () => $('chart').clientWidth < NARROW;

// ends returns the labels at the lines' ends: where each line ends, and where its
// label is, so that no two of them overlap. All in CSS pixels of the plot.
function ends(u) {
  const gap = narrow() ? 13 : 15;
  const labels = ENDS.map((name) => {
    const v = latest(name) / state.limit.rate;
    const y = u.valToPos(place(v), 'y');
    return { name, v, y, at: y };
  });
  // Lines that lie close keep the order of ENDS, so that labels do not jump.
  for (let i = 1; i < labels.length; i++) {
    for (let k = i; k > 0 && labels[k].y < labels[k - 1].y - gap; k--) [labels[k - 1], labels[k]] = [labels[k], labels[k - 1]];
  }
  // Labels that would overlap become one block around the mean of their lines.
  const blocks = [];
  for (const label of labels) {
    let block = [label];
    while (blocks.length > 0 && upper(block, gap) < upper(blocks.at(-1), gap) + blocks.at(-1).length * gap) block = [...blocks.pop(), ...block];
    blocks.push(block);
  }
  const height = u.bbox.height / devicePixelRatio;
  for (const block of blocks) {
    const start = Math.min(upper(block, gap), height + gap / 2 - block.length * gap);
    block.forEach((label, i) => { label.at = start + (i + 0.5) * gap; });
  }
  return labels;
}

// upper returns the upper edge of a block of labels.
function upper(block, gap) {
  return block.reduce((sum, label) => sum + label.y, 0) / block.length - block.length * gap / 2;
}

// showEnds writes the labels, with a stroke from each line to its label.
function showEnds(u) {
  if (points.length === 0) return;
  let box = u.over.querySelector('.ends');
  if (!box) {
    box = make('div', 'ends');
    box.append(...ENDS.map((name) => make('span', name)));
    u.over.append(box);
  }
  const x = u.valToPos(points.at(-1).at, 'x');
  const scale = devicePixelRatio;
  u.ctx.save();
  u.ctx.lineWidth = scale;
  u.ctx.setLineDash([]);
  for (const { name, v, y, at } of ends(u)) {
    const line = LINES.find((l) => l.name === name);
    const element = box.children[ENDS.indexOf(name)];
    const label = name === 'asked' && state.calls === 'wait' ? 'no limit' : line.label;
    setText(element, narrow() ? (name === 'asked' ? label : line.short) : name === 'limit' ? `${label} ${number.format(state.limit.rate)}/s` : `${label} ${times(v)}`);
    element.style.left = `${x + 14}px`;
    element.style.top = `${at}px`;
    u.ctx.strokeStyle = color(name);
    u.ctx.beginPath();
    u.ctx.moveTo(u.bbox.left + x * scale, u.bbox.top + y * scale);
    u.ctx.lineTo(u.bbox.left + (x + 12) * scale, u.bbox.top + at * scale);
    u.ctx.stroke();
  }
  u.ctx.restore();
}

function range() {
  const end = Math.max(SHORTEST, points.at(-1)?.at ?? 0, state.outages.at(-1)?.to ?? 0);
  return [Math.max(0, end - HISTORY), end];
}

// heights returns the range of the y axis: up to 4.6×, 12×, or the highest line.
function heights(u, least, most) {
  return [0, most <= place(4.4) ? place(4.6) : Math.max(place(12), most * 1.02)];
}

function newChart() {
  const box = $('chart');
  const axis = { stroke: color('soft'), grid: { stroke: color('line'), width: 1 }, ticks: { show: false }, font: '12px system-ui, sans-serif' };
  const ticks = (u, i, least, most) => TICKS.filter((v) => place(v) <= most);
  return new uPlot({
    width: box.clientWidth,
    height: box.clientHeight,
    padding: [8, narrow() ? 96 : 170, 0, 0],
    legend: { show: false },
    cursor: { drag: { x: false, y: false }, y: false },
    scales: { x: { time: false, range }, y: { range: heights } },
    axes: [
      { ...axis, size: 28, values: (u, at) => at.map(clock), incrs: [1, 5, 10, 15, 30, 60, 120] },
      { ...axis, size: 44, splits: (u, i, least, most) => ticks(u, i, least, most).map(place), values: (u, at) => at.map((_, i) => `${TICKS[i]}×`) },
    ],
    series: [{}, ...LINES.map(({ name, width, dash }) => ({ stroke: color(name), width, dash, points: { show: false } }))],
    hooks: {
      drawClear: [shade],
      draw: [showEnds],
      setCursor: [(u) => {
        hovered = u.cursor.idx ?? null;
        if (state) showLines();
      }],
    },
  }, data(), box);
}

// remake draws the chart anew for another colour scheme or width.
function remake() {
  if (chart) chart.destroy();
  chart = null;
  if (state) draw();
}

matchMedia('(prefers-color-scheme: dark)').addEventListener('change', remake);
new ResizeObserver(() => {
  if (chart && (chart.width !== $('chart').clientWidth || chart.height !== $('chart').clientHeight)) remake();
}).observe($('chart'));

poll();
