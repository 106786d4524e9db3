// Numbers and times for people. What is not known is a dash, never a zero.

export const NONE = "–";

export function count(value) {
  return value == null ? NONE : value.toLocaleString("en-US");
}

/** Milliseconds. */
export function duration(ms) {
  if (ms == null) return NONE;
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60000) return `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`;
  return `${Math.floor(ms / 60000)} min ${Math.round((ms % 60000) / 1000)} s`;
}

/** Seconds since the epoch, as the time of day. */
export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}

/** How long ago that was, in words that do not change every second. */
export function ago(seconds, now) {
  const passed = Math.max(0, now - seconds);
  if (passed < 10) return "just now";
  if (passed < 60) return `${Math.floor(passed / 10) * 10} s ago`;
  return `${span(passed)} ago`;
}

/** Seconds. */
export function span(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

export function plural(number, word) {
  return `${count(number)} ${word}${number === 1 ? "" : "s"}`;
}

export function bytes(value) {
  if (value == null) return NONE;
  if (value < 1024) return `${value} B`;
  if (value < 1 << 20) return `${(value / 1024).toFixed(1)} KiB`;
  return `${(value / (1 << 20)).toFixed(1)} MiB`;
}

/** JSON with line breaks, without touching its numbers: they may be longer than JavaScript's. */
export function pretty(text) {
  let found = "";
  let depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    if (token === "{" || token === "[") {
      depth++;
      found += token + line();
    } else if (token === "}" || token === "]") {
      depth--;
      const isEmpty = /[{[]\s*$/.test(found);
      found = isEmpty ? found.trimEnd() + token : found + line() + token;
    } else if (token === ",") found += token + line();
    else if (token === ":") found += ": ";
    else found += token;
  }
  return found;
}
