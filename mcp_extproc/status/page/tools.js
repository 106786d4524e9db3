// Tools as a client sees them; and one of them, called.

import { card, copying, empty, fill, h } from "./dom.js";
import { caller, callerForm, client, needsOf, onCaller, wayOf, ways } from "./caller.js";
import { feed } from "./feed.js";
import { bytes, count, duration, plural, pretty } from "./format.js";
import { Unfit, formOf } from "./form.js";

const HINTS = [["readOnlyHint", "read-only"], ["destructiveHint", "destructive"], ["idempotentHint", "idempotent"], ["openWorldHint", "open world"]];

export function tools() {
  let found = null;
  let chosen = null;
  let number = 0;
  const who = h("div", { class: "body" });
  const needs = h("span", { class: "note" });
  const note = h("span", { class: "note", role: "status" });
  const search = h("input", { type: "search", placeholder: "Search in names and descriptions  ( / )", "aria-label": "Search tools", oninput: list });
  const missing = h("p", { class: "note", role: "status" });
  const names = h("div", { class: "list" });
  const detail = h("section", { class: "card", "aria-label": "Tool" });
  const element = h(
    "div",
    { class: "stack" },
    card("As a client", needs, who),
    h("div", { class: "split" }, card("Tools", note, h("div", { class: "body" }, h("label", {}, search), missing), names), detail),
  );
  names.addEventListener("keydown", byArrows);
  const ends = onCaller(load);
  let shown = false;

  function update() {
    if (!feed.known || shown) return;
    shown = true;
    if (!ways().length) {
      element.replaceChildren(h("section", { class: "card" }, empty("Its listener is not the gateway’s own", "mcp-extproc tools URL lists the tools of any endpoint.")));
      return;
    }
    who.replaceChildren(callerForm());
    if (wayOf(caller.way).needs.length && !caller.token) {
      fill(needs, needsOf(wayOf(caller.way)));
      names.replaceChildren(empty("Whose tools?", "Paste a token to see what it may see."));
      detail.hidden = true;
    } else load();
  }

  async function load() {
    const mine = ++number;
    found = chosen = null;
    fill(needs, needsOf(wayOf(caller.way)));
    fill(note, "Asking");
    fill(missing, "");
    names.replaceChildren();
    detail.hidden = true;
    try {
      const result = await client().list("tools");
      if (mine !== number) return;
      fill(missing, result.missing.join(" "));
      found = result.entries.filter((tool) => typeof tool?.name === "string");
      list();
    } catch (problem) {
      if (mine !== number) return;
      fill(note, "");
      names.replaceChildren(empty("They can’t be listed", problem.message));
    }
  }

  function list() {
    if (!found) return;
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fit = found.filter((tool) => words.every((word) => textOf(tool).includes(word)));
    fill(note, fit.length === found.length ? plural(found.length, "tool") : `${count(fit.length)} of ${plural(found.length, "tool")}`);
    names.replaceChildren(
      ...(fit.length
        ? fit.map((tool) => h("button", { type: "button", "aria-current": tool === chosen ? "true" : null, onclick: () => choose(tool) }, h("span", { class: "name" }, tool.name), h("span", { class: "under" }, said(tool.title) ?? said(tool.description) ?? "")))
        : [found.length ? empty("None of them", "No tool has all these words.") : empty("No tools", "This caller sees none.")]),
    );
    if (!chosen && fit.length) choose(fit[0], false);
  }

  function choose(tool, marks = true) {
    chosen = tool;
    detail.hidden = false;
    try {
      detail.replaceChildren(...toolParts(tool));
    } catch (problem) {
      // A server may write any schema. Its other tools are none the worse for it.
      detail.replaceChildren(h("div", { class: "head" }, h("h2", { class: "mono" }, tool.name)), empty("It can’t be shown", problem.message));
    }
    for (const button of names.children) button.removeAttribute("aria-current");
    const button = [...names.children].find((one) => one.firstChild?.textContent === tool.name);
    button?.setAttribute("aria-current", "true");
    if (marks && matchMedia("(max-width: 900px)").matches) detail.scrollIntoView({ block: "start" });
  }

  function byArrows(event) {
    const next = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const other = next && event.target[next];
    if (!other) return;
    event.preventDefault();
    other.focus();
    other.click();
  }
  return { element, update, close: ends };
}

function textOf(tool) {
  return [tool.name, said(tool.title), said(tool.description)].filter(Boolean).join(" ").toLowerCase();
}

/** A text, if it is one. */
function said(text) {
  return typeof text === "string" ? text : null;
}

function toolParts(tool) {
  const answer = h("div", { class: "answer", "aria-live": "polite", hidden: true });
  const form = formOf(tool.inputSchema);
  const button = h("button", { class: "first", type: "submit" }, "Call");
  const submit = async (event) => {
    event.preventDefault();
    let written;
    try {
      written = form.value();
    } catch (problem) {
      if (!(problem instanceof Unfit)) throw problem;
      problem.field.focus();
      return;
    }
    button.disabled = true;
    answer.hidden = false;
    answer.replaceChildren(h("p", { class: "soft" }, "Calling"));
    const started = performance.now();
    try {
      const { result, raw } = await client().request("tools/call", `{"name":${JSON.stringify(tool.name)},"arguments":${written}}`);
      answer.replaceChildren(...resultParts(result, raw, performance.now() - started));
    } catch (problem) {
      answer.replaceChildren(...problemParts(problem, performance.now() - started));
    } finally {
      button.disabled = false;
    }
  };
  const schema = (title, value) => (value ? h("details", {}, h("summary", {}, title), h("pre", { class: "short", tabindex: "0" }, JSON.stringify(value, null, 2))) : null);
  const hints = HINTS.filter(([name]) => tool.annotations?.[name] === true).map(([name, word]) => h("span", { class: name === "destructiveHint" ? "tag warn" : "tag" }, word));
  return [
    h("div", { class: "head" }, h("h2", { class: "mono" }, tool.name), said(tool.title) ? h("span", { class: "soft" }, tool.title) : null),
    h(
      "div",
      { class: "body stack" },
      said(tool.description) ? h("p", { class: "said" }, tool.description) : h("p", { class: "note" }, "It has no description."),
      hints.length || numbersOf(tool) ? h("div", { class: "tags" }, hints, numbersOf(tool)) : null,
      h("form", { onsubmit: submit, novalidate: true, "aria-label": "Arguments", class: "fields" }, form.element, h("div", {}, button)),
      answer,
      schema("Schema of its arguments", tool.inputSchema),
      schema("Schema of its result", tool.outputSchema),
    ),
  ];
}

/** What has been observed of it. */
function numbersOf(tool) {
  const servers = feed.known?.servers ?? [];
  const one = feed.state?.board.tools.find((seen) => tool.name === (servers.find((server) => server.name === seen.server)?.prefix ?? "") + seen.tool);
  return one ? h("span", { class: "tag" }, `${plural(one.calls, "call")}, median ${duration(one.p50)}`) : null;
}

function resultParts(result, raw, ms) {
  const content = Array.isArray(result.content) ? result.content : [];
  return [
    h("p", {}, h("span", { class: result.isError ? "tag bad" : "tag good" }, result.isError ? "The tool reports an error" : "Done"), h("span", { class: "note" }, ` after ${duration(ms)}, ${bytes(new Blob([raw]).size)}`)),
    content.map((part) => h("pre", { class: "short", tabindex: "0" }, partOf(part))),
    result.structuredContent === undefined ? null : h("details", {}, h("summary", {}, "Structured content"), h("pre", { class: "short", tabindex: "0" }, JSON.stringify(result.structuredContent, null, 2))),
    h("details", {}, h("summary", {}, "The answer as it came"), h("pre", { class: "short", tabindex: "0" }, pretty(raw)), copying(() => raw)),
  ].flat().filter(Boolean);
}

/** A part of a result as text. Pictures and sounds are named, not shown. */
function partOf(part) {
  if (typeof part?.text === "string") return part.text;
  if (typeof part?.data === "string") return `${part.type}, ${part.mimeType ?? "of no known type"}, ${bytes(Math.round(part.data.length * 0.75))}`;
  return JSON.stringify(part, null, 2) ?? String(part);
}

function problemParts(problem, ms) {
  return [
    h("p", {}, h("span", { class: "tag bad" }, "No result"), h("span", { class: "note" }, ` after ${duration(ms)}`)),
    h("p", {}, problem.message),
    problem.error?.data === undefined ? null : h("pre", { class: "short" }, JSON.stringify(problem.error.data, null, 2)),
  ].filter(Boolean);
}
