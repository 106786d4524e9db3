// Whom the page asks as: an endpoint, and the token that somebody has pasted. It is kept by this page only, until it is closed.

import { feed } from "./feed.js";
import { h } from "./dom.js";
import { Client } from "./mcp.js";

const listeners = new Set();

export const caller = { way: null, token: "", header: "authorization", client: null, number: 0 };

export function onCaller(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function ways() {
  return (feed.known?.ways ?? []).filter((way) => way.is_reachable);
}

export function wayOf(name) {
  return ways().find((way) => way.name === name) ?? ways()[0];
}

/** The client, made on first use. */
export function client() {
  caller.client ??= new Client(caller.way ?? wayOf(null)?.name ?? "", headersOf(caller.token, caller.header));
  return caller.client;
}

export function headersOf(token, header) {
  if (!token) return {};
  const isBare = header === "authorization" && !/^\S+ \S/.test(token);
  return { [header]: isBare ? `Bearer ${token}` : token };
}

function become(way, token, header) {
  caller.client?.close();
  Object.assign(caller, { way, token, header, client: null, number: caller.number + 1 });
  for (const listener of listeners) listener();
}

addEventListener("pagehide", () => caller.client?.close());

const NEEDS = { oauth: "an access token", key: "an API key", certificate: "a client certificate", external: "a credential" };

/** What callers of an endpoint have to bring, in words. */
export function needsOf(way) {
  if (!way || way.needs.length === 0) return "Anyone may call this endpoint.";
  const needs = way.needs.map((need) => NEEDS[need]).join(" or ");
  const more = way.needs.includes("certificate") ? " The page has no certificate to show." : "";
  return `This endpoint wants ${needs}.${more}`;
}

/** The form in which somebody says who they are. */
export function callerForm() {
  const chosen = wayOf(caller.way);
  const way = h(
    "select",
    { name: "way" },
    ways().map((one) => h("option", { value: one.name, selected: one === chosen }, one.name || "main endpoint")),
  );
  const token = h("input", {
    name: "token", type: "password", autocomplete: "off", spellcheck: "false", value: caller.token,
    placeholder: chosen?.needs.length ? "Paste it here" : "None needed",
  });
  const header = h("input", {
    name: "header", value: caller.number ? caller.header : (chosen?.key_header ?? "authorization"), autocomplete: "off", spellcheck: "false",
    pattern: "[A-Za-z0-9\\-]+", size: 14,
  });
  const submit = (event) => {
    event.preventDefault();
    become(way.value, token.value.trim(), header.value.trim().toLowerCase() || "authorization");
  };
  return h(
    "form",
    { class: "row", onsubmit: submit, "aria-label": "Who asks" },
    ways().length > 1 ? h("label", {}, "Endpoint", way) : null,
    h("label", { class: "wide" }, "Token or key", token),
    h("label", {}, "Header", header),
    h("button", { type: "submit" }, "Ask as this caller"),
  );
}
