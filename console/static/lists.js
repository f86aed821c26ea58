// Forms that change lists: sent as JSON, answered in place. Nothing that is typed goes into an address.
import { ask, byId } from "./shared.js";

const LARGEST = 1_000_000; // a request has 1 MiB, the rest of it among them

async function field(input) {
  if (input.type === "checkbox") return input.checked;
  if (input.type === "file") {
    const [file] = input.files;
    if (file.size > LARGEST) throw new Error("The file is larger than 1 MiB: use `hamgate lists import`.");
    return new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
  }
  if (input.dataset.is === "number") {
    const number = Number(input.value);
    if (input.value.trim() === "" || Number.isNaN(number)) throw new Error(`${input.labels[0].firstChild.data.trim()}: a number is wanted.`);
    return number;
  }
  return input.dataset.is === "true" ? true : input.value;
}

async function body(form, submitter) {
  const made = {};
  for (const input of form.elements) {
    if (!input.name || input.type === "submit") continue;
    const value = await field(input);
    if (value !== "" || input.required) made[input.name] = value;
  }
  if (submitter?.name) made[submitter.name] = submitter.value === "true" ? true : submitter.value;
  return made;
}

// The same page's part anew, without what was typed into other forms being lost.
async function refresh() {
  const place = byId("fresh");
  if (!place) return;
  const address = new URL(location.href);
  const answer = await fetch(address, { headers: { Accept: "text/html" } });
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("fresh");
  if (fresh) place.replaceWith(document.adoptNode(fresh));
}

async function send(form, submitter) {
  const buttons = [...form.querySelectorAll("button")];
  const fault = form.querySelector("[data-fault]");
  const said = form.querySelector("[data-said]") ?? byId("said");
  const say = (place, text) => {
    place.textContent = text;
    if (place === fault) place.hidden = !text;
  };
  say(fault, "");
  say(said, "Working …");
  for (const button of buttons) button.disabled = true;
  try {
    const answer = await ask(form.dataset.ask, await body(form, submitter));
    say(said, answer.said);
    if (answer.written) {
      const isGone = byId("fresh")?.contains(form);
      await refresh();
      if (isGone) byId("said").focus();
    }
  } catch (error) {
    say(said, "");
    say(fault, error instanceof TypeError ? "The file is not UTF-8 text." : error.message);
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

document.addEventListener("submit", (event) => {
  if (!event.target.dataset.ask) return;
  event.preventDefault();
  send(event.target, event.submitter);
});
