// Servers, and what goes on, at one look.

import { card, empty, fill, h, spark, table } from "./dom.js";
import { feed } from "./feed.js";
import { NONE, ago, clock, count, duration } from "./format.js";
import { CALLS, callCells, stateOf } from "./rows.js";

const LATEST = 14;
const SLOWEST = 8;

export function overview() {
  const figures = h("dl", { class: "figures" });
  const servers = table(
    [["Server", ""], ["State", ""], ["Protocol", ""], ["Tools", "num"], ["Calls", "num"], ["Median", "num"], ["95 %", "num"], ["Failures", "num"], ["Circuit breaker", ""], ["Last 2 minutes", ""]],
    "cards",
    "Servers",
  );
  const serversNote = h("span", { class: "note" });
  const calls = table(CALLS, "calls", "Latest calls");
  const noCalls = empty("No calls yet", "They appear here as they are made, within two seconds.");
  const slow = table([["Tool", ""], ["Calls", "num gone"], ["Median", "num"], ["95 %", "num"], ["Errors", "num"]], "", "Slowest tools");
  const noTools = empty("No tool was called yet", "Since the page was opened.");
  const denials = table([["Rule or filter", ""], ["Last", ""], ["Denied", "num"]], "", "Denials");
  const noDenials = empty("Nothing was denied", "Neither by a rule, nor by a filter or a rate limit, since the page was opened.");
  const since = h("span", { class: "note" });
  const element = h(
    "div",
    { class: "stack" },
    h("section", { class: "card", "aria-label": "In short" }, figures),
    card("Servers", serversNote, servers.element),
    h(
      "div",
      { class: "columns" },
      card("Latest calls", h("a", { href: "#calls" }, "All"), calls.element, noCalls),
      h("div", { class: "stack" }, card("Slowest tools", since, slow.element, noTools), card("Denied", null, denials.element, noDenials)),
    ),
  );
  const parts = figureParts(figures);

  function update() {
    const { known, state } = feed;
    if (!known || !state) return;
    const { board, envoy } = state;
    showFigures(parts, state);
    fill(serversNote, serversSaid(known, state));
    servers.rows.show(known.servers, (server) => server.name, (server) => serverCells(server, envoy, state.servers[server.name]));
    const latest = feed.calls.slice(-LATEST).reverse();
    calls.rows.show(latest, (call) => call.n, callCells);
    toggle(latest.length, calls.element, noCalls);
    const tools = [...board.tools].filter((tool) => tool.p95 != null).sort((one, other) => other.p95 - one.p95).slice(0, SLOWEST);
    slow.rows.show(tools, (tool) => `${tool.server}/${tool.tool}`, toolCells);
    toggle(tools.length, slow.element, noTools);
    fill(since, board.total.calls ? `since ${clock(board.since)}` : "");
    denials.rows.show(board.denials, (one) => one.rule, (one) => denialCells(one, state.now));
    toggle(board.denials.length, denials.element, noDenials);
  }
  return { element, update };
}

export function toggle(some, full, none) {
  full.hidden = !some;
  none.hidden = Boolean(some);
}

// -- Figures ----------------------------------------------------------------------------------------------------------

function figureParts(figures) {
  const parts = {};
  for (const [name, title] of [["calls", "Requests per minute"], ["latency", "Median, as clients wait"], ["errors", "Errors"], ["denied", "Denied"], ["sessions", "Open sessions"]]) {
    const value = h("dd", { class: "value" });
    const note = h("dd", { class: "note" });
    const more = h("dd");
    figures.append(h("div", { class: "figure" }, h("dt", {}, title), value, note, more));
    parts[name] = { value, note, more };
  }
  return parts;
}

function showFigures(parts, { board, envoy, now }) {
  const { total } = board;
  const since = `since ${clock(board.since)}`;
  const some = total.calls > 0;
  const perMinute = total.course.slice(-30).reduce((sum, one) => sum + one, 0);
  fill(parts.calls.value, some ? count(perMinute) : NONE);
  fill(parts.calls.note, some ? `${count(total.calls)} ${since}` : "no request yet");
  if (some) drawn(parts.calls.more, total.course, "Requests in each two seconds of the last two minutes");
  fill(parts.latency.value, duration(total.p50));
  fill(parts.latency.note, some ? `95 % within ${duration(total.p95)}` : "of the last 200");
  fill(parts.errors.value, some ? count(total.errors) : NONE);
  fill(parts.errors.note, some ? `${percent(total.errors, total.calls)} of requests` : since);
  fill(parts.denied.value, some || board.denials.length ? count(board.denials.reduce((sum, one) => sum + one.count, 0)) : NONE);
  fill(parts.denied.note, limitsSaid(board, envoy) ?? since);
  fill(parts.sessions.value, board.sessions.length ? count(board.sessions_seen) : NONE);
  const open = envoy?.listener.rq_active;
  fill(parts.sessions.note, open == null ? since : `${count(open)} open ${open === 1 ? "request or stream" : "requests and streams"}`);
}

function limitsSaid(board, envoy) {
  const hit = board.denials.find((one) => one.rule === "rate_limit")?.count;
  if (hit) return `${count(hit)} by rate limits`;
  const before = envoy?.denied.rate_limit;
  return before ? `${count(before)} by rate limits since Envoy’s start` : null;
}

function percent(part, whole) {
  if (part === 0) return "none";
  const share = (100 * part) / whole;
  return `${share < 1 ? "under 1" : Math.round(share)} %`;
}

export function drawn(element, course, label) {
  const text = course.join(",");
  if (element.dataset.course === text) return;
  element.dataset.course = text;
  element.replaceChildren(spark(course, label));
}

// -- Servers ----------------------------------------------------------------------------------------------------------

function serversSaid(known, state) {
  const ready = known.servers.filter((server) => server.state === "ready").length;
  const asked = known.asked == null ? "" : `, asked ${ago(known.asked, state.now)}`;
  return known.asked == null ? "Asking them" : `${ready} of ${known.servers.length} ready${asked}`;
}

function serverCells(server, envoy, seen) {
  const cluster = envoy?.clusters[server.cluster];
  const hosts = envoy?.hosts[server.cluster]?.filter((host) => host.address !== "unix");
  const [word, kind] = stateOf(server, hosts);
  const problem = server.problem ?? hosts?.find((host) => host.problems.length)?.problems.join(", ");
  const where = server.replicas > 1 ? `${server.address} and ${server.replicas - 1} more` : server.address;
  const failures = failuresOf(cluster);
  const p50 = seen?.p50 ?? cluster?.time?.p50;
  const p95 = seen?.p95 ?? cluster?.time?.p95;
  const sinceStart = seen?.p50 == null && p50 != null;
  return [
    [() => [h("span", { class: "name" }, server.name), h("span", { class: "under mono" }, `${where} · ${server.kind}`)], "full", null, [server.name, where, server.kind]],
    [() => [h("span", { class: `state ${kind}` }, word), problem ? h("span", { class: "under" }, problem) : null].filter(Boolean), problem ? "full" : "half", "State", [word, kind, problem]],
    [server.version ?? NONE, "keep", "Protocol"],
    [count(server.tools), "num", "Tools"],
    [() => [seen ? count(seen.calls) : NONE], "num", "Calls", seen?.calls],
    [() => [h("span", { title: sinceStart ? "As Envoy measured it since its start" : "Of the last 200 calls" }, duration(p50))], "num", "Median", [p50, sinceStart]],
    [duration(p95), "num", "95 %"],
    [() => [h("span", { class: failures.sum ? "bad" : "", title: failures.title }, failures.text)], "num", "Failures", [failures]],
    [() => breaker(cluster), "keep", "Circuit breaker", cluster?.open],
    [() => (seen ? spark(seen.course, `Calls of ${server.name} in the last two minutes, at most ${Math.max(...seen.course)} in two seconds`) : h("span", { class: "none" }, NONE)), "full", "Last 2 minutes", seen?.course],
  ];
}

/** What Envoy has counted since its start. Without a request there is nothing to fail. */
function failuresOf(cluster) {
  if (!cluster?.rq_total && !cluster?.cx_connect_fail) return { text: NONE, title: "Not observed", sum: 0 };
  const parts = [["rq_5xx", "HTTP 5xx"], ["rq_timeout", "timeouts"], ["cx_connect_fail", "failed connections"]];
  const sum = parts.reduce((found, [name]) => found + (cluster[name] ?? 0), 0);
  const title = `${parts.map(([name, word]) => `${cluster[name] ?? 0} ${word}`).join(", ")}, since Envoy’s start`;
  return { text: count(sum), title, sum };
}

const BREAKERS = { cx: "connections", cx_pool: "pools", rq: "requests", rq_pending: "waiting requests", rq_retry: "retries" };

function breaker(cluster) {
  if (!cluster) return h("span", { class: "none" }, NONE);
  if (!cluster.open.length) return h("span", { class: "soft" }, "closed");
  return h("span", { class: "tag bad" }, `open: ${cluster.open.map((name) => BREAKERS[name] ?? name).join(", ")}`);
}

// -- Tools, denials ---------------------------------------------------------------------------------------------------

function toolCells(tool) {
  return [
    [() => [h("span", { class: "name" }, tool.tool), h("span", { class: "under" }, tool.server)], "", null, [tool.tool, tool.server]],
    [count(tool.calls), "num gone"],
    [duration(tool.p50), "num"],
    [duration(tool.p95), "num"],
    [count(tool.errors), tool.errors ? "num bad" : "num"],
  ];
}

export function denialCells(one, now) {
  const what = [one.what ?? one.method, one.server && `on ${one.server}`, one.principal && `by ${one.principal}`].filter(Boolean).join(" ");
  return [
    [() => [h("span", { class: "name" }, one.rule), h("span", { class: "under" }, what)], "", null, [one.rule, what]],
    [ago(one.last, now), "keep soft"],
    [count(one.count), "num"],
  ];
}
