import { ask, byId, fault, made, pause } from "./shared.js";

const PATIENCE = 60; // seconds in which workers that share the disk have taken a bundle
const buttons = () => [...document.querySelectorAll(".turn button")];

function open(turn, isOpen) {
  turn.querySelector(".confirm").hidden = !isOpen;
  turn.querySelector(".ask").hidden = isOpen;
  turn.querySelector(isOpen ? ".go" : ".ask").focus();
}

function say(...words) {
  byId("said").hidden = false;
  byId("said").replaceChildren(...words);
}

// Whether workers have taken it is seen by their verdicts alone.
async function watch(model) {
  const again = made("a", { class: "button", href: "/model" }, "Load the page again");
  for (let tries = 0; tries < PATIENCE; tries += 1) {
    const now = await ask("/api/model").catch(() => null);
    if (now?.verdicts[0]?.model === model) {
      say(`The link points to ${model}, and the newest verdict is by it. `, again);
      return;
    }
    await pause(1000);
  }
  say(`The link points to ${model}. No verdict by it has come in a minute: there is no traffic, or the workers do not share this disk. `, again);
}

async function go(turn) {
  fault();
  for (const button of buttons()) button.disabled = true;
  say("It is being proven: its files, its canaries, and those of the bundle in force …");
  window.scrollTo(0, 0);
  try {
    const digests = { digest: turn.dataset.digest, in_force: turn.dataset.inForce };
    const again = turn.dataset.again ? { again: true } : {};
    const { model } = await ask(`/api/model/${turn.dataset.turn}`, { ...digests, ...again });
    open(turn, false);
    say(`The link points to ${model} now. Waiting for a verdict by it … `, made("a", { class: "button", href: "/model" }, "Load the page again"));
    byId("said").querySelector("a").focus();
    await watch(model);
  } catch (error) {
    byId("said").hidden = true;
    fault(error.message);
    for (const button of buttons()) button.disabled = false;
    open(turn, false);
  }
}

document.addEventListener("click", (event) => {
  const turn = event.target.closest(".turn");
  if (!turn) return;
  if (event.target.closest(".ask")) open(turn, true);
  else if (event.target.closest(".no")) open(turn, false);
  else if (event.target.closest(".go")) go(turn);
});
document.addEventListener("keydown", (event) => {
  const turn = event.target.closest(".turn");
  if (event.key === "Escape" && turn && !turn.querySelector(".confirm").hidden) open(turn, false);
});
