// What the gateway was told, without secrets.

import { card, copying, h } from "./dom.js";
import { feed } from "./feed.js";

export function configuration() {
  const text = h("pre", { class: "tall", tabindex: "0", "aria-label": "Configuration" });
  const all = h("input", { type: "checkbox", onchange: update });
  const note = h("span", { class: "note" });
  const element = h(
    "div",
    { class: "stack" },
    card(
      "Effective configuration",
      note,
      h("div", { class: "body stack" }, h("div", { class: "row" }, h("label", {}, all, " With all defaults"), copying(() => text.textContent)), text),
    ),
  );

  function update() {
    const { known } = feed;
    if (!known) return;
    const wanted = all.checked ? known.effective : known.given;
    if (text.textContent !== wanted) text.textContent = wanted;
    note.textContent = `${known.file}. What may be a secret is masked (***).`;
  }
  return { element, update };
}
