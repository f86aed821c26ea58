// What every page's script needs. Text of strangers goes into the page as text, never as HTML.

export const byId = (id) => document.getElementById(id);

export function made(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const badge = (action) => made("span", { class: `badge ${action}` }, action);
export const whole = (number) => number.toLocaleString("en");
export const score = (number) => (number === null ? "–" : number.toFixed(3));

export class Refused extends Error {
  constructor(status, said, after) {
    super(said);
    this.status = status;
    this.after = after;
  }
}

// Ask the console; throws Refused with what it says, also where nobody answers.
export async function ask(path, body, signal) {
  const options = { signal, headers: { Accept: "application/json" } };
  if (body !== undefined) {
    options.method = "POST";
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
    options.headers["X-CSRF-Token"] = document.querySelector("meta[name=csrf]").content;
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The console does not answer.", 0);
  }
  const said = await answer.json().catch(() => null);
  if (answer.ok) return said;
  throw new Refused(answer.status, said?.error ?? `The console answered ${answer.status}.`, Number(answer.headers.get("Retry-After")));
}

export const pause = (milliseconds) => new Promise((go) => setTimeout(go, milliseconds));

export function fault(text) {
  const place = byId("fault");
  place.textContent = text ?? "";
  place.hidden = !text;
}

const EXACT = new Intl.DateTimeFormat("sv", { dateStyle: "short", timeStyle: "medium", timeZone: "UTC" });

// The banner over every page: since when the brokers do not answer.
export function outage(reading) {
  const place = byId("outage");
  const said = reading.away_since
    ? `The brokers do not answer since ${EXACT.format(reading.away_since * 1000)} UTC. What is shown may be old.`
    : "";
  if (place.dataset.said !== said) {
    place.dataset.said = said;
    place.replaceChildren(said, " ", made("span", { class: "cause" }, said ? reading.cause : ""));
  }
  place.hidden = !said;
}
