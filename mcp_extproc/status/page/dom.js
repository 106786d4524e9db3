// Elements are made here and nowhere else. Text is always a text node: nothing that a server says is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element. Properties beginning with `on` are listeners, others attributes; `null`, `false` and `undefined` leave one out. */
export function h(name, properties = {}, ...children) {
  const element = document.createElement(name);
  set(element, properties);
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

function set(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (value == null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
}

/** Put other children into an element, unless they are the same text. */
export function fill(element, ...children) {
  const wanted = children.flat(Infinity).filter((child) => child != null && child !== false);
  if (wanted.length === 1 && typeof wanted[0] === "string" && element.childElementCount === 0) {
    if (element.textContent !== wanted[0]) element.textContent = wanted[0];
    return;
  }
  element.replaceChildren(...wanted);
}

/** Rows of a table, kept by their keys: what is the same stays the same element, so that nothing flickers or loses the focus. */
export class Rows {
  #body;
  #rows = new Map();

  constructor(body) {
    this.#body = body;
  }

  /**
   * @param items what is shown, in order
   * @param key of an item
   * @param cells of an item: `[content, class, label]`, where the content is text or what makes an element
   */
  show(items, key, cells) {
    const found = new Map();
    let at = this.#body.firstElementChild;
    for (const item of items) {
      const name = key(item);
      if (found.has(name)) continue;
      const row = this.#rows.get(name) ?? { element: h("tr"), said: [] };
      update(row, cells(item));
      if (row.element !== at) this.#body.insertBefore(row.element, at);
      else at = at.nextElementSibling;
      found.set(name, row);
    }
    for (const [name, row] of this.#rows) if (!found.has(name)) row.element.remove();
    this.#rows = found;
  }
}

function update(row, cells) {
  cells.forEach(([content, kind, label, said], index) => {
    let cell = row.element.children[index];
    if (!cell) {
      cell = h("td", { class: kind, "data-label": label });
      row.element.append(cell);
    }
    if (typeof content === "string") {
      if (row.said[index] !== content) cell.textContent = content;
      row.said[index] = content;
    } else {
      // What an element is made of is compared, as making it again would lose what is selected.
      const made = JSON.stringify(said ?? null);
      if (said === undefined || row.said[index] !== made) cell.replaceChildren(...[content()].flat());
      row.said[index] = made;
    }
    if (kind && cell.className !== kind) cell.className = kind;
  });
}

/** A table with a head. Columns: `[title, class]`. */
export function table(columns, kind, caption) {
  const body = h("tbody");
  const head = h("tr", {}, columns.map(([title, of]) => h("th", { class: of, scope: "col" }, title)));
  const element = h("table", { class: kind, "aria-label": caption }, h("thead", {}, head), body);
  return { element, rows: new Rows(body) };
}

/** A card with a title. */
export function card(title, note, ...body) {
  return h("section", { class: "card", "aria-label": title }, h("div", { class: "head" }, h("h2", {}, title), note), body);
}

export function empty(title, text) {
  return h("div", { class: "empty" }, h("strong", {}, title), text);
}

/** How something went over time, as a line, which begins where it was first observed: before it there is `null`. */
export function spark(all, label) {
  const counts = all.slice(0, -1); // the last slot is not over
  const most = Math.max(...counts, 1);
  const points = counts
    .map((count, index) => [count, (index * 100) / (counts.length - 1)])
    .filter(([count]) => count != null)
    .map(([count, x]) => [x, 20 - (count * 19) / most]);
  const line = points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");
  const first = points[0]?.[0].toFixed(1) ?? 100;
  const element = svg("svg", { class: "spark", viewBox: "0 0 100 20", preserveAspectRatio: "none", role: "img", "aria-label": label });
  element.append(svg("path", { class: "under", d: `M${first} 20L${line}L100 20Z` }), svg("path", { d: `M${line}` }));
  return element;
}

function svg(name, attributes) {
  const element = document.createElementNS(SVG, name);
  set(element, attributes);
  return element;
}

/** A button that puts a text into the clipboard. */
export function copying(text) {
  const button = h("button", { class: "plain", type: "button", onclick: copy }, "Copy");
  async function copy() {
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select it, and press Ctrl-C";
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  }
  return button;
}
