// Lines that add the gateway to an agent.

import { card, copying, empty, h } from "./dom.js";
import { feed } from "./feed.js";
import { needsOf } from "./caller.js";

export function connect() {
  const element = h("div", { class: "stack" });
  let said = "";

  function update() {
    const ways = feed.known?.ways;
    if (!ways || said === JSON.stringify(ways)) return;
    said = JSON.stringify(ways);
    element.replaceChildren(
      ...(ways.length ? ways.map(one) : [h("section", { class: "card" }, empty("Its listener is not the gateway’s own", "Clients use the URL of the Envoy that it is attached to."))]),
    );
  }
  return { element, update };
}

function one(way) {
  const name = way.name ? way.name.replace(/[^A-Za-z0-9_-]/g, "-") : "gateway";
  const headers = { ...way.headers, ...(way.needs.includes("key") && !way.needs.includes("oauth") && way.key_header ? { [way.key_header]: way.key_header === "authorization" ? "Bearer YOUR-KEY" : "YOUR-KEY" } : {}) };
  const some = Object.keys(headers).length > 0;
  const words = Object.entries(headers).flatMap(([key, value]) => ["--header", quoted(`${key}: ${value}`)]);
  const json = (value) => JSON.stringify(value, null, 2);
  const parts = [
    ["Claude Code", "In a terminal", ["claude mcp add --transport http", name, quoted(way.url), ...words].join(" ")],
    ["Cursor", "In ~/.cursor/mcp.json, or .cursor/mcp.json of a project", json({ mcpServers: { [name]: { url: way.url, ...(some ? { headers } : {}) } } })],
    ["VS Code", "In .vscode/mcp.json", json({ servers: { [name]: { type: "http", url: way.url, ...(some ? { headers } : {}) } } })],
    ["Gemini CLI", "In a terminal", ["gemini mcp add --transport http", name, quoted(way.url), ...words].join(" ")],
  ];
  const body = parts.map(([agent, where, text]) =>
    h("section", { "aria-label": agent }, h("div", { class: "row line" }, h("h3", {}, agent), h("span", { class: "note" }, where), copying(() => text)), h("pre", { tabindex: "0" }, text)),
  );
  return card(way.name ? `Virtual server ${way.name}` : "Add it to an agent", h("span", { class: "note" }, needsOf(way)), h("div", { class: "body stack" }, body));
}

/** A word of a shell's command line. */
function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
