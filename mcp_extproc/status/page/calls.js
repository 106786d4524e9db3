// The calls as they come.

import { card, empty, h, table, fill } from "./dom.js";
import { feed } from "./feed.js";
import { bytes, clock, count, duration, plural } from "./format.js";
import { CALLS, callCells, verdictOf } from "./rows.js";
import { toggle } from "./overview.js";

const MOST = 200;

export function calls() {
  let held = null;
  const search = h("input", { type: "search", placeholder: "Tool, server, caller, session", "aria-label": "Filter calls", oninput: update });
  const only = h("select", { "aria-label": "Verdict", onchange: update }, [["", "All"], ["allow", "Allowed"], ["deny", "Denied"], ["bad", "Failed"]].map(([value, title]) => h("option", { value }, title)));
  const hold = h("button", { type: "button", "aria-pressed": "false", onclick: toggleHold }, "Hold");
  const note = h("span", { class: "note", role: "status" });
  const list = table([...CALLS, ["At server", "num gone"]], "calls", "Calls");
  list.element.classList.add("chosen-by-row");
  list.element.addEventListener("click", chooseRow);
  const none = empty("No calls yet", "They appear here as they are made, within two seconds.");
  const noMatch = empty("None of them", "No call fits the filter.");
  const detail = h("div", { class: "facts" });
  let chosen = null;
  const element = h(
    "div",
    { class: "stack" },
    h("div", { class: "row" }, h("div", { class: "wide" }, search), only, hold),
    h("section", { class: "card", "aria-label": "One call", "aria-live": "polite", hidden: true }, h("div", { class: "head" }, h("h2", {}, "One call"), h("button", { type: "button", class: "plain", onclick: hide }, "Close")), detail),
    card("Calls", note, list.element, none, noMatch),
  );

  function toggleHold() {
    held = held ? null : feed.calls;
    hold.setAttribute("aria-pressed", String(Boolean(held)));
    hold.textContent = held ? "Go on" : "Hold";
    update();
  }

  function update() {
    const all = held ?? feed.calls;
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = all.filter((call) => fits(call, only.value) && words.every((word) => textOf(call).includes(word)));
    list.rows.show(found.slice(-MOST).reverse(), (call) => call.n, cells);
    fill(note, held ? `Held; ${plural(feed.calls.length ? feed.calls.at(-1).n - (held.at(-1)?.n ?? 0) : 0, "call")} since then` : shownOf(found.length, all.length, words.length || only.value));
    toggle(all.length, note, none);
    list.element.hidden = !found.length;
    noMatch.hidden = !all.length || Boolean(found.length);
  }

  /** A row is as good as what is written in it, unless somebody selects text there. */
  function chooseRow(event) {
    if (event.target.closest("button") || String(getSelection())) return;
    const button = event.target.closest("tbody tr")?.querySelector("button");
    button?.focus();
    button?.click();
  }

  function cells(call) {
    return [...callCells(call, show), [duration(call.server_ms), "num gone soft"]];
  }

  function show(call) {
    const facts = [
      ["Verdict", [verdictOf(call)[0], call.rule && `rule ${call.rule}`, call.why].filter(Boolean).join(", ")],
      ["Method", call.method ?? call.http], ["Asked for", call.what], ["Server", call.server], ["Endpoint", call.endpoint],
      ["Caller", call.principal], ["Session", call.session], ["HTTP status", call.status || null], ["Error", call.error],
      ["Took", `${duration(call.ms)}${call.server_ms == null ? "" : `, ${duration(call.server_ms)} of it at the server`}`],
      ["Answer", bytes(call.bytes)], ["JSON-RPC id", call.id], ["Request id", call.request_id],
    ].filter(([, value]) => value != null && value !== "");
    detail.replaceChildren(h("table", { "aria-label": "One call" }, h("tbody", {}, facts.map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, String(value)))))));
    chosen = document.activeElement;
    detail.parentElement.hidden = false;
    detail.parentElement.scrollIntoView({ block: "nearest" });
  }

  function hide() {
    detail.parentElement.hidden = true;
    chosen?.focus();
  }
  return { element, update };
}

/** What is listed is a part of what the page has, and that of what there was. */
function shownOf(found, all, isFiltered) {
  if (isFiltered) return `${count(found)} of the last ${plural(all, "call")}, the latest first`;
  const { total, since } = feed.state?.board ?? {};
  const listed = Math.min(found, MOST);
  return `${total && listed < total.calls ? `the latest ${count(listed)} of ` : ""}${plural(Math.max(total?.calls ?? 0, listed), "call")}${since ? ` since ${clock(since)}` : ""}`;
}

function fits(call, verdict) {
  if (!verdict) return true;
  return verdict === "bad" ? call.verdict === "error" || Boolean(call.verdict === "allow" && call.error) : call.verdict === verdict;
}

function textOf(call) {
  return [call.what, call.method, call.http, call.server, call.endpoint, call.principal, call.session, call.rule, call.error, call.request_id].filter(Boolean).join(" ").toLowerCase();
}
