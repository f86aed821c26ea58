import { ask, fault, made } from "./shared.js";

// One click writes an analyst's correction of this verdict's message.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-learn] button");
  if (!button) return;
  const place = button.closest("[data-learn]");
  const [partition, offset] = place.dataset.learn.split(":").map(Number);
  fault();
  for (const each of place.querySelectorAll("button")) each.disabled = true;
  try {
    const { label } = await ask("/api/feedback/learn", { partition, offset, label: button.dataset.label });
    const said = made("span", { role: "status", tabindex: "-1", class: "muted" }, "sent as ", made("span", { class: `badge ${label === "spam" ? "block" : "deliver"}` }, label));
    place.replaceChildren(said);
    said.focus();
  } catch (error) {
    fault(error.message);
    for (const each of place.querySelectorAll("button")) each.disabled = false;
    button.focus();
  }
});
