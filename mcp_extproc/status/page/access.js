// What may this principal see? Asked as it, through the listener for clients: the page knows no more than its token does.

import { card, empty, fill, h } from "./dom.js";
import { headersOf, needsOf, wayOf, ways } from "./caller.js";
import { feed } from "./feed.js";
import { count, plural } from "./format.js";
import { Client } from "./mcp.js";

const KINDS = [
  ["tools", "tools/list", "Tools", (one) => one.name],
  ["prompts", "prompts/list", "Prompts", (one) => one.name],
  ["resources", "resources/list", "Resources", (one) => one.uri],
  ["resourceTemplates", "resources/templates/list", "Resource templates", (one) => one.uriTemplate],
];

export function access() {
  const one = side("First caller");
  const other = side("Compare with");
  const results = h("div", { class: "stack", "aria-live": "polite" });
  const intro = h("p", { class: "note" }, "Tokens stay in this page until it is closed. They go to the gateway’s listener, as those of any client do.");
  const element = h("div", { class: "stack" }, card("What may this principal see?", null, h("div", { class: "body stack" }, intro, one.element, other.element)), results);
  let shown = false;

  function update() {
    if (!feed.known || shown) return;
    shown = true;
    if (!ways().length) element.replaceChildren(h("section", { class: "card" }, empty("Its listener is not the gateway’s own", "mcp-extproc tools URL -H 'Authorization: Bearer …' lists what a token may see.")));
    else for (const each of [one, other]) each.begin(show);
  }

  function show() {
    const sides = [one, other].filter((each) => each.found || each.problem);
    results.replaceChildren(
      ...sides.filter((each) => each.problem).map((each) => h("div", { class: "alert", role: "alert" }, h("strong", {}, "It sees nothing"), h("p", {}, each.problem))),
      ...KINDS.map((kind) => kindCard(kind, sides.filter((each) => each.found))).filter(Boolean),
    );
  }
  return { element, update, close: () => [one, other].forEach((each) => each.client?.close()) };
}

function kindCard([kind, , title, nameOf], sides) {
  if (!sides.length) return null;
  const lists = sides.map((each) => new Set((each.found[kind]?.entries ?? []).map(nameOf)));
  const problems = [...new Set(sides.map((each) => each.found[kind]?.problem).filter(Boolean))];
  const all = [...new Set(lists.flatMap((list) => [...list]))].sort();
  if (!all.length && !problems.length && kind !== "tools") return null;
  const said = sides.map((each, index) => (sides.length > 1 ? `${index ? "other" : "first"}: ${count(lists[index].size)}` : plural(lists[index].size, "entry").replace("entrys", "entries"))).join(", ");
  const item = (name) => {
    const sees = lists.map((list) => list.has(name));
    const differs = sees.some(Boolean) && !sees.every(Boolean);
    return h("li", {}, h("code", {}, name), differs ? h("span", { class: "tag warn" }, sees[0] ? "only the first" : "only the other") : null);
  };
  const nothing = problems.length ? null : empty("None", "It may call this endpoint, and sees no tools there.");
  const missing = [...new Set(sides.flatMap((each) => each.found[kind]?.missing ?? []))].map((sentence) => h("p", { class: "body note" }, sentence));
  const body = all.length ? h("ul", { class: "names body" }, all.map((name) => item(name))) : nothing;
  return card(title, h("span", { class: "note" }, said), problems.map((problem) => h("p", { class: "body problem" }, problem)), missing, body);
}

function side(title) {
  const found = { element: h("div"), client: null, found: null, problem: null };
  found.begin = (show) => {
    const way = h("select", {}, ways().map((one) => h("option", { value: one.name }, one.name || "main endpoint")));
    const token = h("input", { type: "password", autocomplete: "off", spellcheck: "false", placeholder: "None: an anonymous caller" });
    const header = h("input", { value: ways()[0].key_header ?? "authorization", autocomplete: "off", spellcheck: "false", size: 14 });
    const note = h("span", { class: "note" });
    let number = 0;
    const ask = async (event) => {
      event.preventDefault();
      found.client?.close();
      const mine = ++number;
      Object.assign(found, { client: new Client(way.value, headersOf(token.value.trim(), header.value.trim().toLowerCase())), found: null, problem: null });
      fill(note, "Asking");
      try {
        const said = await found.client.hello();
        const lists = {};
        for (const [kind, method] of KINDS) if (said.capabilities?.[kind === "resourceTemplates" ? "resources" : kind]) lists[kind] = await listed(found.client, kind, method);
        if (mine !== number) return;
        found.found = lists;
      } catch (problem) {
        if (mine !== number) return;
        const needs = problem.status === 401 ? ` ${needsOf(wayOf(way.value))}` : "";
        found.problem = problem.message + needs;
      }
      fill(note, "");
      show();
    };
    found.element.replaceChildren(
      h("form", { class: "row", onsubmit: ask, "aria-label": title }, ways().length > 1 ? h("label", {}, "Endpoint", way) : null, h("label", { class: "wide" }, `${title}: token or key`, token), h("label", {}, "Header", header), h("button", { type: "submit" }, "Ask"), note),
    );
  };
  return found;
}

/** `{entries, missing, problem}`: one list that can't be had does not hide the others. */
async function listed(client, kind, method) {
  try {
    return { ...(await client.list(kind, method)), problem: null };
  } catch (problem) {
    return { entries: [], missing: [], problem: problem.error?.code === -32601 ? null : problem.message };
  }
}
