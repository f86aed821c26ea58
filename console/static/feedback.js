import { ask, byId, fault, made, pause, whole } from "./shared.js";

const KEYS = { s: "spam", h: "ham", d: "dismiss" };
const PART = 900000; // bytes of one request, below what the console takes
const FILE = 64 << 20;
const PATIENCE = 20; // seconds until the process that decides is given up
const rows = () => [...document.querySelectorAll("#decisions [data-decision]")];
const reason = () => byId("reason").value.trim();
const buttons = (row) => [...row.querySelectorAll("button[data-decide]")];
let chosen = null; // the parts of a file that were looked at

function badge(state) {
  const said = state.state === "accepted" ? state.label : state.state === "refused" ? "dismissed" : state.state;
  const kind = { spam: "block", ham: "deliver", disputed: "flag" }[said] ?? "unscored";
  return made("span", { class: `badge ${kind}` }, said);
}

// Send a word; then look until it is in force.
async function decide(row, label) {
  fault();
  if (label === "dismiss" && !reason()) {
    fault("A dismissal needs a reason.");
    byId("reason").focus();
    return;
  }
  const id = row.dataset.decision;
  const place = row.querySelector(".state");
  const others = rows();
  const next = others[others.indexOf(row) + 1];
  for (const button of buttons(row)) button.disabled = true;
  if (row.contains(document.activeElement) || document.activeElement === document.body) buttons(next ?? row)[0].focus();
  try {
    const before = await ask("/api/feedback/decide", { decision: id, label, reason: reason() || null });
    place.replaceChildren(made("span", { class: "muted" }, `sent as ${label} …`));
    for (let tries = 0; tries < 2 * PATIENCE; tries += 1) {
      await pause(500);
      const now = await ask(`/api/feedback/${id}`);
      if (now.changes === before.changes && now.label === before.label) continue;
      place.replaceChildren(badge(now));
      byId("said").textContent = `${id}: ${now.state} ${now.label ?? ""} by ${now.by}`;
      row.dataset.changes = now.changes;
      return;
    }
    place.replaceChildren(made("span", { class: "muted" }, `sent as ${label}; in force once hamgate feedback has read it`));
  } catch (error) {
    fault(error.message);
  } finally {
    for (const button of buttons(row)) button.disabled = false;
    if (document.activeElement === document.body) buttons(row)[0].focus();
  }
}

const list = byId("decisions");
list?.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-decide]");
  if (button) decide(button.closest("[data-decision]"), button.dataset.decide);
});
list?.addEventListener("keydown", (event) => {
  const row = event.target.closest("[data-decision]");
  if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
  if (KEYS[event.key]) {
    event.preventDefault();
    if (!buttons(row)[0].disabled) decide(row, KEYS[event.key]);
  } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    const others = rows();
    const other = others[others.indexOf(row) + (event.key === "ArrowDown" ? 1 : -1)];
    if (other) (other.querySelector("button[data-decide]:not(:disabled)") ?? other.querySelector("a"))?.focus();
  }
});

// A file of Label Studio goes in parts that the console takes.
function parts(tasks) {
  const made = [];
  let part = [];
  let size = 2;
  const encoder = new TextEncoder();
  for (const [index, task] of tasks.entries()) {
    const written = JSON.stringify(task);
    const bytes = encoder.encode(written).length + 1;
    if (bytes > PART) throw new Error(`Task ${index + 1} is too large: ${whole(bytes)} bytes.`);
    if (size + bytes > PART || part.length === 1000) {
      made.push(`[${part.join(",")}]`);
      [part, size] = [[], 2];
    }
    part.push(written);
    size += bytes;
  }
  if (part.length) made.push(`[${part.join(",")}]`);
  return made;
}

function trouble(text) {
  byId("import-fault").textContent = text ?? "";
  byId("import-fault").hidden = !text;
}

const sum = (counts) => Object.values(counts).reduce((total, count) => total + count, 0);

async function take(isPreview) {
  const labels = {};
  const left = {};
  let done = 0;
  trouble();
  byId("import").hidden = false;
  byId("import-send").hidden = true;
  try {
    for (const part of chosen) {
      byId("import-said").textContent = `${isPreview ? "Looking" : "Sending"} … part ${done + 1} of ${chosen.length}`;
      const said = await ask(`/api/feedback/import?preview=${isPreview}`, JSON.parse(part));
      for (const [label, count] of Object.entries(said.labels)) labels[label] = (labels[label] ?? 0) + count;
      for (const [why, count] of Object.entries(said.left)) left[why] = (left[why] ?? 0) + count;
      done += 1;
    }
  } catch (error) {
    const sent = isPreview ? "" : ` ${done} of ${chosen.length} parts are sent.`;
    trouble(`${error.message}${sent}`);
    byId("import-said").textContent = "";
    return;
  }
  const counts = Object.entries(labels).map(([label, count]) => `${whole(count)} ${label}`).join(", ");
  const lines = [`${whole(sum(labels))} corrections ${isPreview ? "would be sent" : "sent"}${counts ? `: ${counts}` : ""}.`];
  if (sum(left)) lines.push(`${whole(sum(left))} tasks left out: ${Object.entries(left).map(([why, count]) => `${whole(count)} ${why}`).join("; ")}.`);
  byId("import-said").textContent = lines.join("\n");
  byId("import-send").hidden = !isPreview || !sum(labels);
  if (isPreview) byId("import-send").textContent = `Send ${whole(sum(labels))} corrections`;
  else chosen = null;
}

byId("tasks")?.addEventListener("change", async (event) => {
  const file = event.target.files[0];
  event.target.value = "";
  if (!file) return;
  trouble();
  byId("import-said").textContent = "";
  try {
    if (file.size > FILE) throw new Error(`The file has ${whole(file.size)} bytes; ${whole(FILE)} at most.`);
    let tasks;
    try {
      tasks = JSON.parse(await file.text());
    } catch {
      tasks = null;
    }
    if (!Array.isArray(tasks)) throw new Error("This is no list of Label Studio's tasks. Export it there as JSON.");
    chosen = parts(tasks);
  } catch (error) {
    byId("import").hidden = true;
    trouble(error.message);
    return;
  }
  if (chosen.length) await take(true);
  else trouble("There is no task in it.");
});
byId("import-send")?.addEventListener("click", () => chosen && take(false));
