// How single things look in tables, wherever they are.

import { h } from "./dom.js";
import { NONE, clock, duration } from "./format.js";

const SHORT = 16;
const VERDICTS = { allow: ["allowed", "soft"], deny: ["denied", "tag warn"], error: ["failed", "tag bad"] };

export const CALLS = [["Time", ""], ["Verdict", ""], ["What", ""], ["Server", "gone"], ["Caller", "gone"], ["Took", "num"]];

/**
 * A row of calls. An allowed call that its server answered with an error says so.
 * @param choose called when somebody wants to know more of it
 */
export function callCells(call, choose) {
  const [word, kind] = verdictOf(call);
  return [
    [clock(call.time), "keep soft"],
    [() => h("span", { class: kind }, word), "keep", "", word],
    [() => whatOf(call, choose), "what", "", call.n],
    [call.server ?? NONE, kindOf(call.server)],
    [call.principal ?? NONE, kindOf(call.principal)],
    [duration(call.ms), "num"],
  ];
}

/** Short names stay on one line: a column of them would be as narrow as a letter beside one with long texts. */
function kindOf(name) {
  if (name == null) return "gone none";
  return name.length <= SHORT ? "gone keep" : "gone";
}

export function verdictOf(call) {
  if (call.verdict === "allow" && call.error) return [call.error === "tool_error" ? "tool error" : "error", "tag bad"];
  return VERDICTS[call.verdict] ?? [call.verdict, ""];
}

function whatOf(call, choose) {
  const method = call.method ?? { GET: "stream", DELETE: "end of session" }[call.http] ?? call.http;
  const why = [call.rule && `rule ${call.rule}`, call.error && call.error !== call.why && call.error, call.why].filter(Boolean);
  const words = [call.what ? h("span", { class: "name" }, call.what) : method, call.what ? h("span", { class: "soft" }, ` ${method}`) : null];
  return [
    choose ? h("button", { type: "button", class: "text", onclick: () => choose(call) }, words.filter(Boolean)) : words,
    why.length && call.verdict !== "allow" ? h("span", { class: "under" }, why.join(" · ")) : null,
  ]
    .flat()
    .filter(Boolean);
}

const STATES = { ready: ["Ready", "good"], starting: ["Starting", "warn"], failed: ["Failed", "bad"] };

export function stateOf(server, hosts) {
  const [word, kind] = STATES[server.state] ?? ["Not asked yet", "unknown soft"];
  const unwell = (hosts ?? []).filter((host) => host.problems.length);
  if (server.state === "ready" && unwell.length) return [`${hosts.length - unwell.length} of ${hosts.length} replicas`, "warn"];
  return [word, kind];
}
