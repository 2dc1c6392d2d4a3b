// The lab's page: asks for the state twice a second and shows it; sends what
// buttons say. Nothing here decides anything.
'use strict';

const POLL = 500; // ms between two questions
const PATIENCE = 4000; // ms before a question counts as lost
const HISTORY = 300; // seconds shown at most
const SHORTEST = 60; // and at least
const EVENTS = 12; // shown

// The lines of the chart in the order in which they are drawn.
const LINES = [
  { name: 'asked', label: 'asked for', width: 1.5 },
  { name: 'open', label: 'fail open', width: 1.5 },
  { name: 'private', label: 'private full limit', width: 1.5 },
  { name: 'closed', label: 'fail closed', width: 1.5 },
  { name: 'admitted', label: 'this limiter', width: 3.5 },
  { name: 'limit', label: 'limit', width: 1.5, dash: [6, 4] }, // on top: what keeps to it would hide it
];

// And of the table.
const ROWS = ['asked', 'admitted', 'limit', 'open', 'closed', 'private', 'waiting'];

// Names that depend on the way in which the fleet is asked.
const WORDS = {
  allow: {
    asked: 'asked for',
    rate: 'admitted of asked, /s',
    room: 'tokens here',
    explained: 'Tokens here: how many this process could admit at once.',
    others: '',
  },
  wait: {
    asked: 'without a limit',
    rate: 'admitted, /s',
    room: 'waiting',
    explained: 'Waiting: callers in Wait.',
    others: ' Each worker waits for a token, works for 10 ms, and waits again. The other ways have no Wait:'
      + ' their workers call Allow, and pause for 10 ms where they are denied.',
  },
};

const $ = (id) => document.getElementById(id);

// setText touches the page only where something changes: a screen reader is
// told of every change in what is live.
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

// What is known of the run.
let state = null;
let first = 0; // number of the first of tallies
let tallies = []; // one a second
let lost = true; // no answer since the last question
let hovered = null; // index of the second under the pointer

// merge takes an answer into what is known.
function merge(answer) {
  if (!state || answer.first > first + tallies.length) {
    first = answer.first;
    tallies = [];
  }
  tallies.push(...answer.seconds.slice(first + tallies.length - answer.first));
  const drop = tallies.length - HISTORY;
  if (drop > 0) {
    tallies = tallies.slice(drop);
    first += drop;
  }
  state = answer;
}

async function ask() {
  const from = state ? first + tallies.length : 0;
  const response = await fetch(`state?from=${from}`, { signal: AbortSignal.timeout(PATIENCE) });
  if (!response.ok) throw new Error(await response.text());
  const answer = await response.json();
  if (state && state.run !== answer.run) {
    state = null; // another run, which was asked for what is new in the last one
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

// send has the lab do what a button says, and says what it did.
async function send(button) {
  if (lost) {
    say('Not connected to the lab: nothing was done.', true);
    return;
  }
  const { do: what, process, load, demand, calls } = button.dataset;
  const form = new URLSearchParams({ do: what });
  if (process) form.set('process', process);
  if (load) form.set('load', load);
  if (demand) form.set('demand', demand);
  if (calls) form.set('calls', calls);
  try {
    const response = await fetch('do', { method: 'POST', body: form });
    const answer = await response.json();
    say(answer.said, !answer.done);
  } catch {
    say('The lab did not answer: nobody knows whether it was done.', true);
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

// ---- what is shown

function show() {
  showStatus();
  showButtons();
  if (!state) return;
  setText($('about'), `${state.limit.text} shared by the fleet, in front of ${state.redis.what}; running for ${clock(state.now)}.`);
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
  status.className = `status ${kind}`;
  const text = `${redis}\n${fleet}`;
  if (status.dataset.text === text) return;
  status.dataset.text = text;
  status.replaceChildren(make('b', '', redis), ' ', make('span', '', fleet));
}

function statusNow() {
  if (lost) {
    return ['lost', state ? 'Connection lost.' : 'No connection to the lab.', state
      ? 'The lab has ended, or can’t be reached. What you see is the last that was known. This page tries again by itself.'
      : 'This page tries again by itself.'];
  }
  const [kind, redis] = REDIS[state.redis.mode];
  if (state.processes.length === 0) {
    return ['warn', redis, 'No process runs: nobody is asked and nothing is admitted. Add a process.'];
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
  if (count.degraded === all) text += ' Each goes on with its last share of the limit.';
  if (state.calls === 'wait') text += ` Callers waiting: ${number.format(waitingNow())}.`;
  return text;
}

function waitingNow() {
  return state.processes.reduce((sum, p) => sum + p.waiting, 0);
}

function showButtons() {
  document.body.classList.toggle('stale', lost);
  for (const button of document.querySelectorAll('button[data-do]')) {
    const { mode, load, demand, calls } = button.dataset;
    const idle = Boolean(state && demand && state.calls === 'wait'); // workers set their own demand
    button.setAttribute('aria-disabled', String(lost || idle));
    if (!state || !(mode || load || demand || calls)) continue;
    const pressed = mode ? mode === state.redis.mode
      : load ? load === state.load
      : calls ? calls === state.calls
      : !idle && Number(demand) === state.demand;
    button.setAttribute('aria-pressed', String(pressed));
  }
}

// valuesOf are the values of all lines in one tally.
function valuesOf(tally, limit) {
  return { ...tally, limit };
}

function showLines() {
  const body = $('lines').tBodies[0];
  if (body.rows.length === 0) {
    for (const name of ROWS) {
      const row = make('tr', name);
      const head = make('th', '', LINES.find((line) => line.name === name)?.label ?? 'callers waiting');
      head.scope = 'row';
      row.append(head, make('td'), make('td'));
      body.append(row);
    }
  }
  const i = hovered !== null && hovered < tallies.length ? hovered : tallies.length - 1;
  setText($('when'), hovered !== null && i >= 0 ? `at ${clock(first + i)}` : 'last second');
  const now = i >= 0 ? valuesOf(tallies[i], state.limit.rate) : null;
  const outage = state.outages.at(-1);
  setText($('outage'), outageTitle(outage));
  const long = outage ? outage.to - outage.from : 0;
  const then = outage ? valuesOf(outage, state.limit.rate * long) : null;
  ROWS.forEach((name, k) => {
    const cells = body.rows[k].cells;
    setText(cells[1], now ? number.format(now[name]) : '–');
    setText(cells[2], then && long > 0 ? inOutage(name, then, long) : '–');
  });
  setText(body.rows[ROWS.indexOf('asked')].cells[0], WORDS[state.calls].asked);
  body.rows[ROWS.indexOf('waiting')].hidden = state.calls !== 'wait';
}

// inOutage is the value of a line in an outage: times the limit, or the mean
// number of callers that wait.
function inOutage(name, then, long) {
  if (name === 'waiting') return `${number.format(then.waiting / long)} on average`;
  return `${(then[name] / then.limit).toFixed(2)} × limit`;
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

function data() {
  const x = tallies.map((_, i) => first + i + 0.5);
  return [x, ...LINES.map(({ name }) => tallies.map((t) => (name === 'limit' ? state.limit.rate : t[name])))];
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
  u.ctx.fillStyle = color('shade');
  for (const { from, to } of state.outages) {
    const a = u.valToPos(from, 'x', true);
    u.ctx.fillRect(a, top, Math.max(1, u.valToPos(to, 'x', true) - a), height);
  }
  u.ctx.restore();
}

function range() {
  const end = Math.max(SHORTEST, first + tallies.length);
  return [Math.max(0, end - HISTORY), end];
}

function newChart() {
  const box = $('chart');
  const axis = { stroke: color('soft'), grid: { stroke: color('line'), width: 1 }, ticks: { show: false }, font: '12px system-ui, sans-serif' };
  return new uPlot({
    width: box.clientWidth,
    height: box.clientHeight,
    legend: { show: false },
    cursor: { drag: { x: false, y: false }, y: false },
    scales: { x: { time: false, range }, y: { range: (u, least, most) => [0, Math.max(most, state.limit.rate) * 1.08] } },
    axes: [
      { ...axis, size: 28, values: (u, ticks) => ticks.map(clock), incrs: [1, 5, 10, 15, 30, 60, 120] },
      { ...axis, size: 56, values: (u, ticks) => ticks.map((v) => (v < 10 ? String(v) : number.format(v))) },
    ],
    series: [{}, ...LINES.map(({ name, width, dash }) => ({ stroke: color(name), width, dash, points: { show: false } }))],
    hooks: {
      drawClear: [shade],
      setCursor: [(u) => {
        hovered = u.cursor.idx ?? null;
        if (state) showLines();
      }],
    },
  }, data(), box);
}

// Another colour scheme or width: the chart is made anew, or fitted.
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
  if (chart) chart.destroy();
  chart = null;
  if (state) draw();
});
new ResizeObserver(() => {
  if (chart) chart.setSize({ width: $('chart').clientWidth, height: $('chart').clientHeight });
}).observe($('chart'));

poll();
