// A client of one of the gateway's endpoints, as any other: what it may do is what its token may do.

const LATEST = "2025-11-25";
const MOST_PAGES = 100;
const UNAVAILABLE = "mcp-extproc/unavailable";

/** Why there is no result. `status` is of HTTP, `error` of JSON-RPC. */
export class Failed extends Error {
  constructor(message, { status = null, error = null } = {}) {
    super(message);
    this.status = status;
    this.error = error;
  }
}

export class Client {
  #path;
  #headers;
  #session = {};
  #id = 0;
  #opening = null;

  /**
   * @param way the endpoint's name
   * @param headers the caller's own, such as `authorization`
   */
  constructor(way, headers) {
    this.#path = `relay/${way}`;
    this.#headers = headers;
  }

  /** The result of a request: `{result, raw}`, where `raw` is the whole message as it came. */
  async request(method, params) {
    await this.#open();
    try {
      return await this.#ask(method, params);
    } catch (problem) {
      if (problem.status !== 404 || !this.#session["mcp-session-id"]) throw problem;
      this.#session = {}; // the session has ended
      this.#opening = null;
      await this.#open();
      return this.#ask(method, params);
    }
  }

  /**
   * A list, such as `tools`: `{entries, missing}`, where `missing` has sentences about servers that could not be asked. Their
   * entries would look as if they were hidden from this caller.
   */
  async list(kind, method = `${kind}/list`) {
    const entries = [];
    const missing = new Set();
    let cursor;
    for (let page = 0; page < MOST_PAGES; page++) {
      const { result } = await this.request(method, cursor === undefined ? {} : { cursor });
      entries.push(...(Array.isArray(result[kind]) ? result[kind] : []));
      const unavailable = result._meta?.[UNAVAILABLE];
      for (const one of Array.isArray(unavailable) ? unavailable : []) missing.add(`Those of server ${one?.server} are not among them: it ${one?.message}.`);
      cursor = result.nextCursor;
      if (cursor === undefined) break;
    }
    return { entries, missing: [...missing] };
  }

  /** What the server said of itself. */
  async hello() {
    return this.#open();
  }

  close() {
    if (this.#session["mcp-session-id"]) this.#send(null, { method: "DELETE", keepalive: true }).catch(() => {});
    this.#session = {};
    this.#opening = null;
  }

  #open() {
    this.#opening ??= this.#begin().catch((problem) => {
      this.#opening = null;
      throw problem;
    });
    return this.#opening;
  }

  async #begin() {
    const clientInfo = { name: "mcp-extproc-status-page", version: "1" };
    const { result } = await this.#ask("initialize", { protocolVersion: LATEST, capabilities: {}, clientInfo });
    this.#session["mcp-protocol-version"] = result.protocolVersion;
    await this.#send(JSON.stringify({ jsonrpc: "2.0", method: "notifications/initialized" }));
    return result;
  }

  async #ask(method, params) {
    const id = ++this.#id;
    // The arguments of a call are text already, as numbers may be longer than JavaScript's.
    const written = typeof params === "string" ? params : JSON.stringify(params);
    const response = await this.#send(`{"jsonrpc":"2.0","id":${id},"method":${JSON.stringify(method)},"params":${written}}`);
    const session = response.headers.get("mcp-session-id");
    if (method === "initialize" && session) this.#session["mcp-session-id"] = session;
    const isStream = (response.headers.get("content-type") ?? "").startsWith("text/event-stream");
    const raw = isStream ? await this.#event(response, id) : await response.text();
    let message;
    try {
      message = JSON.parse(raw);
    } catch {
      throw new Failed(`HTTP ${response.status}: ${raw.slice(0, 500) || "an empty answer"}`, { status: response.status });
    }
    if (message?.error) {
      const { code, message: said } = message.error;
      throw new Failed(`${said} (${code})`, { status: response.status, error: message.error });
    }
    if (!response.ok || message?.result == null) throw new Failed(`HTTP ${response.status}, without a result`, { status: response.status });
    return { result: message.result, raw };
  }

  async #send(body, more = {}) {
    const own = { ...this.#headers, ...this.#session };
    try {
      return await fetch(this.#path, {
        method: "POST",
        body,
        headers: {
          ...own,
          "x-status-page": Object.keys(own).join(","),
          accept: "application/json, text/event-stream",
          ...(body === null ? {} : { "content-type": "application/json" }),
        },
        credentials: "omit",
        cache: "no-store",
        ...more,
      });
    } catch (problem) {
      throw new Failed(`The gateway does not answer: ${problem.message}`);
    }
  }

  /** The response in a stream of events. What else comes is of no use here. */
  async #event(response, id) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      rest += value ?? "";
      const blocks = rest.split(/\r?\n\r?\n/);
      rest = done ? "" : blocks.pop();
      for (const block of blocks) {
        const data = block.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).replace(/^ /, "")).join("\n");
        if (!data) continue;
        const message = JSON.parse(data);
        if (message === null || typeof message !== "object") continue;
        if (message.id === id && message.method === undefined) {
          reader.cancel().catch(() => {});
          return data;
        }
        if (message.method !== undefined && message.id !== undefined) this.#decline(message);
      }
      if (done) throw new Failed("The stream ended without an answer.");
    }
  }

  /** A server asks something, although nobody is there to be asked. */
  #decline(message) {
    const answer = message.method === "ping" ? { result: {} } : { error: { code: -32601, message: "The status page answers no requests." } };
    this.#send(JSON.stringify({ jsonrpc: "2.0", id: message.id, ...answer })).catch(() => {});
  }
}
