import { badge, byId, made, outage, score, whole } from "./shared.js";

const ACTIONS = ["deliver", "flag", "block", "unscored"];
const SECONDS = 300;
const ROWS = 30;
const SAY_EVERY = 15000;

const dark = matchMedia("(prefers-color-scheme: dark)");
const still = byId("pause");
let isPaused = false;
let rows = []; // of every action, the newest first
let waiting = []; // those of them that the table has not yet
let points = new Map(); // second to [deliver, flag, block, unscored, dead]
let chart = null;
let saidAt = 0;
let last = 0;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 19);

function draw() {
  const place = byId("chart");
  chart?.destroy();
  const axis = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line") } };
  const line = (name) => ({ label: name, stroke: colour(name), width: 2, points: { show: false } });
  chart = new uPlot(
    {
      width: place.clientWidth - 10,
      height: 210,
      padding: [10, 12, 0, 0],
      cursor: { drag: { setScale: false } },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      scales: { y: { range: (_, low, high) => [0, Math.max(5, high * 1.1)] } },
      axes: [{ ...axis, space: 80, values: (_, times) => times.map(clock) }, { ...axis, size: 54 }],
      series: [{ label: "UTC", value: (_, seconds) => (seconds === null ? "–" : clock(seconds)) }, ...ACTIONS.map(line)],
    },
    columns(),
    place,
  );
}

function columns() {
  const times = [];
  const lines = ACTIONS.map(() => []);
  for (let at = last - SECONDS; at < last; at += 1) {
    times.push(at);
    const found = points.get(at);
    lines.forEach((values, index) => values.push(found ? found[index] : 0));
  }
  return [times, ...lines];
}

const share = (part, total) => (total ? `${((100 * part) / total).toFixed(part && part / total < 0.1 ? 1 : 0)} %` : " ");
const milliseconds = (value) => (value === null ? "–" : value < 10 ? `${value.toFixed(1)} ms` : value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(value < 10000 ? 1 : 0)} s`);

function figures(minute) {
  byId("rate").textContent = minute.rate < 10 ? minute.rate.toFixed(1) : whole(Math.round(minute.rate));
  byId("total").textContent = whole(minute.total);
  for (const action of ACTIONS) {
    byId(action).textContent = whole(minute[action]);
    byId(`${action}-share`).textContent = share(minute[action], minute.total);
  }
  byId("p50").textContent = milliseconds(minute.p50);
  byId("p99").textContent = milliseconds(minute.p99);
  byId("outside").textContent = minute.total ? share(minute.outside, minute.total) : "–";
  byId("dead").textContent = whole(minute.dead);
  if (Date.now() - saidAt > SAY_EVERY) {
    saidAt = Date.now();
    byId("summary").textContent = `In the last minute ${whole(minute.total)} messages: ${ACTIONS.map((each) => `${whole(minute[each])} ${each}`).join(", ")}.`;
  }
}

function row(verdict, isNew) {
  const marks = [];
  if (verdict.reason) marks.push(made("span", { class: "mark reason" }, verdict.reason), " ");
  for (const flag of verdict.flags) marks.push(made("span", { class: "mark" }, flag), " ");
  return made(
    "tr",
    isNew ? { class: "new" } : {},
    made("td", { class: "time" }, verdict.time),
    made("td", {}, badge(verdict.action)),
    made("td", { class: "number" }, score(verdict.score)),
    made("td", { class: "wide" }, verdict.label || "–"),
    made("td", { class: "id" }, made("a", { href: verdict.href }, made("bdi", {}, verdict.id || "no id"))),
    made("td", { class: "marks" }, ...marks),
    made("td", { class: "wide" }, verdict.language || "–"),
    made("td", { class: "number wide" }, milliseconds(verdict.latency)),
  );
}

const fits = (verdict) => !byId("only").value || verdict.action === byId("only").value;

// Whoever points at the table, or has the focus in it, keeps what is there.
const isHeld = () => byId("newest").matches(":hover, :focus-within");

function list() {
  const only = byId("only").value;
  const shown = rows.filter(fits).slice(0, ROWS);
  const none = made("tr", { class: "none" }, made("td", { colspan: "8" }, only ? `No verdict ${only} yet.` : "No verdict yet."));
  byId("newest").replaceChildren(...(shown.length ? shown.map((verdict) => row(verdict, false)) : [none]));
  waiting = [];
}

function add() {
  const place = byId("newest");
  const fresh = waiting.filter(fits);
  waiting = [];
  if (!fresh.length) return;
  place.querySelector(".none")?.remove();
  place.prepend(...fresh.map((verdict) => row(verdict, true)));
  while (place.children.length > ROWS) place.lastChild.remove();
}

function take(state) {
  outage(state.reading);
  last = Math.floor(state.now);
  for (const [at, ...counts] of state.points) points.set(at, counts);
  for (const at of points.keys()) if (at < last - SECONDS) points.delete(at);
  figures(state.minute);
  byId("connection").textContent = state.reading.behind > 5000 ? `${whole(state.reading.behind)} records behind` : state.reading.is_connected ? "Up to date" : state.reading.away_since ? "Waiting for the brokers" : "Connecting to the brokers …";
  if (isPaused) return;
  if (!document.hidden) chart?.setData(columns());
  const kept = {};
  const newest = state.newest.slice().reverse();
  waiting = [...newest, ...waiting].slice(0, ROWS);
  rows = [...newest, ...rows].filter((verdict) => (kept[verdict.action] = (kept[verdict.action] ?? 0) + 1) <= ROWS);
  if (waiting.length && !isHeld()) add();
}

function connect() {
  const source = new EventSource("/api/live");
  source.addEventListener("all", (event) => {
    rows = waiting = [];
    take(JSON.parse(event.data));
    list();
    if (!chart) draw();
  });
  source.addEventListener("tick", (event) => take(JSON.parse(event.data)));
  source.addEventListener("full", () => {
    byId("connection").textContent = "Too many pages are open.";
  });
  source.addEventListener("error", () => {
    byId("connection").textContent = "The console does not answer; asking on …";
    if (source.readyState === EventSource.CLOSED) {
      byId("connection").textContent = "The console refused the live events: too many pages are open, or the log-in is over.";
      setTimeout(connect, 10000);
    }
  });
}

still.addEventListener("click", () => {
  isPaused = !isPaused;
  still.setAttribute("aria-pressed", String(isPaused));
  still.textContent = isPaused ? "Go on" : "Pause";
});
byId("only").addEventListener("change", () => list());
dark.addEventListener("change", () => chart && draw());
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth !== width && chart) {
    width = innerWidth;
    chart.setSize({ width: byId("chart").clientWidth - 10, height: 210 });
  }
});
connect();
