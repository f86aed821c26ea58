import { Refused, ask, badge, byId, fault, made, pause, score, whole } from "./shared.js";

const TURN = 50; // texts of one request
const MOST = 1000; // lines of a file
const BYTES = 4 << 20;
const CHARACTERS = 100000;
const ORDER = ["deliver", "flag", "block"];

const text = byId("text");
let verdicts = []; // each with its text as sent, in `sent`
let bands = null;
let stopping = null;

const mode = () => document.querySelector("input[name=mode]:checked").value;
const wellFormed = (said) => (said.toWellFormed ? said.toWellFormed() : said.replace(/[\ud800-\udfff]/gu, "\ufffd"));

// The action by the score and these bands, within what the policy allows a text of its flags.
function action(verdict, flagFrom, blockFrom) {
  if (verdict.score === null) return verdict.action;
  const by = verdict.score >= blockFrom ? "block" : verdict.score >= flagFrom ? "flag" : "deliver";
  return ORDER[Math.min(ORDER.indexOf(by), ORDER.indexOf(verdict.most))];
}

function shown(verdict) {
  const flagFrom = Number(byId("flag-from").value);
  const blockFrom = Number(byId("block-from").value);
  return isAsIs() ? verdict.action : action(verdict, flagFrom, blockFrom >= 1 ? Infinity : blockFrom);
}

const isAsIs = () => byId("slider").dataset.moved !== "yes";

async function send(path, body) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await ask(path, body, stopping?.signal);
    } catch (error) {
      if (!(error instanceof Refused) || ![429, 503].includes(error.status) || attempt > 10) throw error;
      await pause(1000 * (error.after || 1));
    }
  }
}

async function judge(texts) {
  fault();
  verdicts = [];
  stopping = new AbortController();
  byId("judge").disabled = true;
  const isMany = texts.length > 1 || mode() === "lines";
  byId("one").hidden = byId("many").hidden = true;
  byId("progress").hidden = texts.length <= TURN;
  byId("bar").max = texts.length;
  byId("bar").value = 0;
  try {
    for (let at = 0; at < texts.length; at += TURN) {
      const turn = texts.slice(at, at + TURN);
      const answer = await send("/api/try", { texts: turn });
      verdicts.push(...answer.verdicts.map((verdict, index) => ({ ...verdict, sent: turn[index] })));
      byId("bar").value = verdicts.length;
      byId("done").textContent = `${whole(verdicts.length)} of ${whole(texts.length)} judged`;
      if (isMany) list();
    }
  } catch (error) {
    if (error.name !== "AbortError") fault(error.message);
    else byId("done").textContent = `Stopped: ${whole(verdicts.length)} of ${whole(texts.length)} judged`;
  } finally {
    byId("judge").disabled = false;
    stopping = null;
  }
  if (!verdicts.length) return;
  byId("slider").hidden = false;
  redraw();
  if (!isMany) {
    byId("one").hidden = false;
    await explain(verdicts[0], byId("explained"));
  }
}

function redraw() {
  const changed = verdicts.filter((verdict) => shown(verdict) !== verdict.action).length;
  byId("what-if").textContent = isAsIs() ? "" : verdicts.length === 1
    ? changed ? `It would be ${shown(verdicts[0])} in place of ${verdicts[0].action}.` : `It would stay ${verdicts[0].action}.`
    : `${whole(changed)} of ${whole(verdicts.length)} would have another action.`;
  if (!byId("many").hidden) list();
  if (mode() === "one" && verdicts.length === 1) one(verdicts[0]);
}

const marks = (verdict) => [
  verdict.reason ? made("span", { class: "mark reason" }, verdict.reason) : null,
  ...verdict.flags.flatMap((flag) => [made("span", { class: "mark" }, flag), " "]),
];

function one(verdict) {
  const meter = verdict.score === null ? null : made("span", { class: "score" }, made("meter", { class: shown(verdict), min: 0, max: 1, value: verdict.score, "aria-label": "score" }), ` ${score(verdict.score)}`);
  const never = verdict.block_from === null ? "never blocked" : `blocked from ${verdict.block_from}`;
  const limit = verdict.most === "block" ? "" : ` A text of these flags is at most ${verdict.most === "flag" ? "flagged" : "delivered"}.`;
  byId("verdict").replaceChildren(
    made(
      "div",
      { class: "card" },
      made("p", { class: "said" }, badge(shown(verdict)), meter, verdict.label ?? "", ...marks(verdict), verdict.language ? made("span", { class: "mark" }, `language: ${verdict.language}`) : null),
      made("p", { class: "muted" }, `Spam from ${verdict.threshold}; flagged from ${verdict.flag_from}; ${never}.${limit}`),
      verdict.normalised === verdict.text ? null : made("h3", {}, "What the normaliser made of it"),
      verdict.normalised === verdict.text ? made("p", { class: "muted" }, "The normaliser left the text as it is.") : made("p", { class: "message" }, verdict.normalised || "(nothing is left)"),
      verdict.is_cut ? made("p", { class: "muted" }, "Only the beginning is shown.") : null,
    ),
  );
}

async function explain(verdict, place) {
  if (verdict.score === null) {
    place.replaceChildren();
    return;
  }
  place.replaceChildren(made("p", { class: "muted", role: "status" }, "Leaving out each word in turn …"));
  try {
    const found = await send("/api/explain", { text: verdict.sent });
    const strongest = Math.max(0.5, ...found.words.map((each) => Math.abs(each.odds ?? 0)));
    const words = found.words.flatMap((each) => {
      const level = each.odds === null ? 0 : Math.min(3, Math.ceil((3 * Math.abs(each.odds)) / strongest - 0.15));
      const kind = level > 0 ? ` ${each.odds > 0 ? "up" : "down"}${level}` : "";
      const odds = each.odds === null ? "not measured" : `${each.odds > 0 ? "+" : ""}${each.odds}`;
      return [made("span", { class: `word${kind}`, title: `${odds} log odds of spam` }, each.word), " "];
    });
    const top = found.words.filter((each) => each.odds).sort((a, b) => Math.abs(b.odds) - Math.abs(a.odds)).slice(0, 10);
    place.replaceChildren(
      made(
        "div",
        { class: "card" },
        made("h3", {}, "Which words moved it"),
        made("p", { class: "muted" }, "Red words make it more like spam, green ones less: by how much the log odds fall when the word is left out.", found.is_partial ? " Of a long text only a part was measured." : ""),
        made("p", { class: "words" }, ...words),
        made(
          "table",
          {},
          made("thead", {}, made("tr", {}, made("th", { scope: "col" }, "Word"), made("th", { scope: "col", class: "number" }, "Log odds"))),
          made("tbody", {}, ...top.map((each) => made("tr", {}, made("td", { class: "message" }, each.word), made("td", { class: "number" }, `${each.odds > 0 ? "+" : ""}${each.odds.toFixed(2)}`))), made("tr", {}, made("td", { class: "muted" }, "other words, and what no single word does"), made("td", { class: "number" }, found.odds === null ? "–" : (found.odds - sum(top)).toFixed(2))), made("tr", {}, made("td", {}, "the score's log odds"), made("td", { class: "number" }, found.odds?.toFixed(2) ?? "–"))),
        ),
      ),
    );
  } catch (error) {
    place.replaceChildren(made("p", { class: "fault" }, error.message));
  }
}

const sum = (words) => words.reduce((total, each) => total + each.odds, 0);

function list() {
  byId("many").hidden = false;
  const only = byId("only").value;
  const counts = { block: 0, flag: 0, deliver: 0, unscored: 0 };
  for (const verdict of verdicts) counts[shown(verdict)] += 1;
  byId("counts").replaceChildren(...Object.entries(counts).flatMap(([name, count]) => [made("span", {}, badge(name), ` ${whole(count)}`), " "]));
  const rows = [];
  verdicts.forEach((verdict, index) => {
    if (only && shown(verdict) !== only) return;
    const why = made("button", { type: "button", class: "quiet", "aria-label": `Why, line ${index + 1}`, "aria-expanded": "false" }, "why");
    const row = made("tr", {}, made("td", { class: "number" }, String(index + 1)), made("td", {}, badge(shown(verdict))), made("td", { class: "number" }, score(verdict.score)), made("td", { class: "message" }, verdict.text), made("td", { class: "wide" }, ...marks(verdict)), made("td", {}, verdict.score === null ? null : why));
    why.addEventListener("click", () => {
      if (row.nextSibling?.dataset?.why) {
        row.nextSibling.remove();
        why.setAttribute("aria-expanded", "false");
        return;
      }
      const place = made("td", { colspan: "6" });
      const below = made("tr", { "data-why": "yes" }, place);
      row.after(below);
      why.setAttribute("aria-expanded", "true");
      explain(verdict, place);
    });
    rows.push(row);
  });
  byId("rows").replaceChildren(...(rows.length ? rows : [made("tr", { class: "none" }, made("td", { colspan: "6" }, "None."))]));
}

async function read(file) {
  if (file.size > BYTES) {
    fault(`The file has ${whole(file.size)} bytes; ${whole(BYTES)} at most.`);
    return;
  }
  document.querySelector("input[name=mode][value=lines]").checked = true;
  begin((await file.text()).replace(/^\ufeff/, ""));
}

function begin(said) {
  const lines = mode() === "lines" ? said.split(/\r?\n/).filter((line) => line.trim()) : [said];
  const texts = lines.map(wellFormed);
  if (!texts.length || !texts[0]) {
    fault("There is no text.");
  } else if (texts.length > MOST) {
    fault(`${whole(texts.length)} lines; ${whole(MOST)} at most.`);
  } else if (texts.some((each) => each.length > CHARACTERS)) {
    fault(`A message has more than ${whole(CHARACTERS)} characters.`);
  } else {
    judge(texts);
  }
}

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!stopping) begin(text.value);
});
text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("form").requestSubmit();
});
byId("stop").addEventListener("click", () => stopping?.abort());
byId("file").addEventListener("change", (event) => {
  if (event.target.files[0]) read(event.target.files[0]);
  event.target.value = "";
});
const form = byId("form");
for (const kind of ["dragenter", "dragover"]) form.addEventListener(kind, (event) => { event.preventDefault(); form.classList.add("over"); });
for (const kind of ["dragleave", "drop"]) form.addEventListener(kind, () => form.classList.remove("over"));
form.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) read(event.dataTransfer.files[0]);
});

function reset() {
  byId("slider").dataset.moved = "no";
  byId("flag-from").value = bands.flag_from;
  byId("block-from").value = bands.block_from ?? 1;
  say();
}

function say() {
  const [flagFrom, blockFrom] = isAsIs() ? [bands.flag_from, bands.block_from ?? 1] : [Number(byId("flag-from").value), Number(byId("block-from").value)];
  byId("flag-from-said").textContent = flagFrom.toFixed(3);
  byId("block-from-said").textContent = blockFrom >= 1 ? "never" : blockFrom.toFixed(3);
}

for (const [mine, other, isLower] of [["flag-from", "block-from", true], ["block-from", "flag-from", false]]) {
  byId(mine).addEventListener("input", () => {
    const here = Number(byId(mine).value);
    if (isLower === here > Number(byId(other).value)) byId(other).value = here; // flagged from, at most, where it is blocked
    byId("slider").dataset.moved = "yes";
    say();
    redraw();
  });
}
byId("reset").addEventListener("click", () => { reset(); redraw(); });
byId("only").addEventListener("change", list);

for (;;) {
  try {
    bands = await ask("/api/bands");
    if (!bands.model) throw new Refused(0, bands.why);
    byId("model").textContent = `Judged by ${bands.model}, here on the CPU`;
    reset();
    break;
  } catch (error) {
    byId("model").textContent = error.message;
    await pause(2000);
  }
}
