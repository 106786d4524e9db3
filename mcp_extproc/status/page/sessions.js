// Sessions, streams, and what was refused to them.

import { card, empty, h, table, fill } from "./dom.js";
import { feed } from "./feed.js";
import { NONE, ago, clock, count } from "./format.js";
import { denialCells, toggle } from "./overview.js";

export function sessions() {
  const list = table([["Session", ""], ["Caller", ""], ["Endpoint", "gone"], ["Protocol", ""], ["First", "gone"], ["Last", ""], ["Requests", "num"], ["Denied", "num"]], "cards", "Sessions");
  const none = empty("No session yet", "One appears with its next request.");
  const note = h("span", { class: "note" });
  const open = h("dl", { class: "figures" });
  const openParts = ["Open sessions", "Open streams", "Open requests and streams", "Open connections", "Requests since Envoy’s start"].map((title) => {
    const value = h("dd", { class: "value" });
    open.append(h("div", { class: "figure" }, h("dt", {}, title), value));
    return value;
  });
  const denials = table([["Rule or filter", ""], ["Last", ""], ["Denied", "num"]], "", "Denials");
  const noDenials = empty("Nothing was denied", "Neither by a rule, nor by a filter or a rate limit, since the page was opened.");
  const counters = table([["Envoy’s filter", ""], ["Denied since its start", "num"]], "", "Denials that Envoy counts");
  const noCounters = empty("No filter has denied anything", "Of those that Envoy counts.");
  const noNumbers = empty("Not known", "Envoy’s numbers are not there.");
  const element = h(
    "div",
    { class: "stack" },
    h("section", { class: "card", "aria-label": "What is open" }, open),
    card("Sessions", note, list.element, none),
    h("div", { class: "columns" }, card("Denied, and rate limits that were hit", null, denials.element, noDenials), card("Denied by Envoy’s filters", null, counters.element, noCounters, noNumbers)),
  );

  function update() {
    const { state } = feed;
    if (!state) return;
    const { board, envoy, now } = state;
    list.rows.show(board.sessions, (one) => one.session, (one) => cells(one, now));
    toggle(board.sessions.length, list.element, none);
    fill(note, board.sessions.length ? `Since ${clock(board.since)}; by a hash of their ids` : "");
    const streams = state.workers?.length ? state.workers.reduce((sum, one) => sum + one.streams, 0) : null;
    const values = [board.sessions.length ? board.sessions_seen : null, streams, envoy?.listener.rq_active, envoy?.listener.cx_active, envoy?.listener.rq_total];
    openParts.forEach((part, index) => fill(part, count(values[index])));
    openParts[1].parentElement.hidden = streams == null;
    denials.rows.show(board.denials, (one) => one.rule, (one) => denialCells(one, now));
    toggle(board.denials.length, denials.element, noDenials);
    const counted = Object.entries(envoy?.denied ?? {}).filter(([, number]) => number);
    counters.rows.show(counted, ([name]) => name, ([name, number]) => [[name, "name"], [count(number), "num"]]);
    toggle(counted.length, counters.element, noCounters);
    noCounters.hidden ||= !envoy;
    noNumbers.hidden = Boolean(envoy);
  }
  return { element, update };
}

function cells(one, now) {
  return [
    [one.session, "mono full", "Session"],
    [one.principal ?? NONE, one.principal ? "" : "none", "Caller"],
    [one.endpoint ?? "main", "gone"],
    [one.version ?? NONE, "keep", "Protocol"],
    [clock(one.first), "keep gone"],
    [one.ended ? "ended" : ago(one.last, now), "keep soft", "Last"],
    [count(one.requests), "num", "Requests"],
    [count(one.denied), one.denied ? "num warn" : "num", "Denied"],
  ];
}
