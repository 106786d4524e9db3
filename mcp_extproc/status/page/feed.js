// What the gateway tells of itself, as it changes.

const MOST_CALLS = 500;

export const feed = {
  known: null,
  state: null,
  calls: [],
  /** `waiting` before the first word, `live`, or `lost`. */
  link: "waiting",
};

const listeners = new Set();

/** Have a function called after each change. Returns what ends that. */
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function tell() {
  for (const listener of listeners) listener();
}

export function open() {
  const source = new EventSource("events");
  const on = (name, take) =>
    source.addEventListener(name, (event) => {
      feed.link = "live";
      take(JSON.parse(event.data));
      tell();
    });
  on("known", (data) => (feed.known = data));
  on("begin", () => (feed.calls = []));
  on("state", (data) => (feed.state = data));
  on("calls", (data) => (feed.calls = [...feed.calls, ...data].slice(-MOST_CALLS)));
  source.addEventListener("error", () => {
    feed.link = "lost"; // the browser tries again by itself
    tell();
    if (source.readyState === EventSource.CLOSED) {
      source.close();
      setTimeout(open, 3000);
    }
  });
}
