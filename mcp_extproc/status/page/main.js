// The frame: tabs, what the gateway is, and the view that is chosen.

import { empty, fill, h } from "./dom.js";
import { feed, onChange, open } from "./feed.js";
import { span } from "./format.js";
import { access } from "./access.js";
import { calls } from "./calls.js";
import { configuration } from "./configuration.js";
import { connect } from "./connect.js";
import { overview } from "./overview.js";
import { sessions } from "./sessions.js";
import { tools } from "./tools.js";

const VIEWS = [
  ["overview", "Overview", overview],
  ["calls", "Calls", calls],
  ["tools", "Tools", tools],
  ["access", "Who sees what", access],
  ["sessions", "Sessions", sessions],
  ["configuration", "Configuration", configuration],
  ["connect", "Connect", connect],
];

const main = document.getElementById("main");
const about = document.getElementById("about");
const link = document.getElementById("link");
const tabs = document.getElementById("tabs");
const unknown = h("section", { class: "card" }, empty("Nothing is known yet", "It is shown as soon as the gateway tells it."));
let view = null;
/** Whether the gateway has told anything. Before, a view would say of nothing that there is none. */
let isTold = false;

for (const [name, title] of VIEWS) tabs.append(h("li", {}, h("a", { href: `#${name}` }, title)));

function chosen() {
  return VIEWS.find(([name]) => location.hash === `#${name}`) ?? VIEWS[0];
}

function show() {
  const [name, title, make] = chosen();
  view?.close?.();
  for (const tab of tabs.querySelectorAll("a")) {
    if (tab.hash === `#${name}`) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  document.title = `${title} · MCP gateway`;
  view = make();
  main.replaceChildren(isTold ? view.element : unknown);
  view.update?.();
}

function head() {
  const { known, state } = feed;
  if (known && state) {
    const way = known.ways[0];
    const uptime = span(state.now - known.started).replaceAll(" ", "\u00a0");
    const place = way ? [h("code", {}, way.url), " · "] : [];
    const text = `${known.file.split("/").pop()}\u00a0· up\u00a0${uptime}\u00a0· version\u00a0${known.version}`;
    if (about.dataset.said !== text + way?.url) about.replaceChildren(...place, text);
    about.dataset.said = text + way?.url;
  }
  const said = {
    waiting: "Connecting",
    live: state?.envoy === null && known?.command === "run" ? "Live, without Envoy’s numbers" : "Live",
    lost: "Not connected; trying again",
  };
  fill(link, said[feed.link]);
  link.className = feed.link;
}

addEventListener("hashchange", () => {
  if (location.hash === "#main") return;
  show();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
  const search = main.querySelector("input[type=search]");
  if (search) {
    event.preventDefault();
    search.focus();
  }
});
onChange(() => {
  head();
  if (!isTold && feed.known && feed.state?.records) {
    isTold = true;
    main.replaceChildren(view.element);
  }
  view?.update?.();
});
head();
show();
open();
