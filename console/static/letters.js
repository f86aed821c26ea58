import { Refused, ask, byId, fault, pause, whole } from "./shared.js";

const boxes = () => [...document.querySelectorAll("#letters input[type=checkbox]")];
const chosen = () => boxes().filter((box) => box.checked).map((box) => box.dataset.place);
const place = (said) => said.split(":").map(Number);
const sum = (counts) => Object.values(counts).reduce((total, count) => total + count, 0);
let previewed = null; // what `Send back` sends: what was looked at before

function choose() {
  const count = chosen().length;
  byId("preview").disabled = !count;
  byId("preview").textContent = count ? `Preview the chosen (${count})` : "Preview the chosen";
  byId("every").checked = count > 0 && count === boxes().length;
  forget();
}

// Another choice is not what was previewed.
function forget() {
  previewed = null;
  byId("send").hidden = true;
}

function said(state) {
  const { sent, left, truncated } = state.counts;
  const lines = [];
  const reasons = Object.entries(sent).map(([reason, count]) => `${whole(count)} ${reason}`).join(", ");
  lines.push(state.is_preview ? `${whole(sum(sent))} would be sent back${reasons ? `: ${reasons}` : ""}.` : `${whole(sum(sent))} sent back to the input${reasons ? `: ${reasons}` : ""}.`);
  if (sum(left)) lines.push(`${whole(sum(left))} left: sent back before.`);
  if (sum(truncated)) lines.push(`${whole(sum(truncated))} truncated: never sent.`);
  return lines.join("\n");
}

async function run(choice) {
  fault();
  byId("result").hidden = false;
  byId("send").hidden = true;
  byId("said").textContent = choice.preview ? "Looking …" : "Sending …";
  try {
    const { number } = await ask("/api/redrive", choice);
    for (;;) {
      const state = await ask("/api/redrive");
      if (state?.number !== number) throw new Refused(0, "Another run has begun meanwhile.");
      if (state.is_running) {
        if (state.said) byId("said").textContent = state.said;
        await pause(250);
        continue;
      }
      if (state.error) throw new Refused(0, state.error);
      byId("said").textContent = said(state);
      previewed = choice.preview && sum(state.counts.sent) ? choice : null;
      byId("send").hidden = !previewed;
      if (previewed) byId("send").textContent = `Send ${whole(sum(state.counts.sent))} back`;
      return;
    }
  } catch (error) {
    byId("said").textContent = "";
    fault(error.message);
  }
}

const again = () => byId("again").checked;
byId("preview")?.addEventListener("click", () => run({ places: chosen().map(place), again: again(), preview: true }));
byId("preview-all")?.addEventListener("click", (event) => run({ reasons: [event.target.dataset.reason], until: Number(event.target.dataset.until), again: again(), preview: true }));
byId("preview-this")?.addEventListener("click", (event) => run({ places: [place(event.target.dataset.place)], again: again(), preview: true }));
byId("send").addEventListener("click", () => previewed && run({ ...previewed, preview: false }));
byId("again").addEventListener("change", forget);
byId("every")?.addEventListener("change", (event) => {
  for (const box of boxes()) box.checked = event.target.checked;
  choose();
});
byId("letters")?.addEventListener("change", choose);
