// A small MCP client for a page: each request to the gateway is one fetch(). Returns what the page could read.
async (url) => {
  const read = [];
  let session = null;

  const send = async (method, message, headers = {}) => {
    const response = await fetch(url, {
      method,
      headers: {
        accept: "application/json, text/event-stream",
        ...(message ? { "content-type": "application/json" } : {}),
        ...(session ? { "mcp-session-id": session, "mcp-protocol-version": "2025-11-25" } : {}),
        ...headers,
      },
      body: message && JSON.stringify({ jsonrpc: "2.0", ...message }),
    });
    session ??= response.headers.get("mcp-session-id");
    const text = await response.text();
    const data = text.split("\n").find((line) => line.startsWith("data: "))?.slice(6) ?? text;
    const answer = data ? JSON.parse(data) : null;
    read.push(response.status);
    return answer;
  };

  try {
    const clientInfo = { name: "page", version: "0" };
    const opened = await send("POST", {
      id: 1, method: "initialize", params: { protocolVersion: "2025-11-25", capabilities: {}, clientInfo },
    });
    await send("POST", { method: "notifications/initialized" });
    const listed = await send("POST", { id: 2, method: "tools/list" });
    const call = { name: "notes__add", arguments: { a: 1, b: 2 } };
    const called = await send("POST", { id: 3, method: "tools/call", params: call }, { "x-anything": "1" });
    const failed = await send("POST", { id: 4, method: "tools/call", params: { name: "down__add" } });
    const stream = new AbortController();
    const streamed = await fetch(url, {
      headers: { accept: "text/event-stream", "mcp-session-id": session }, signal: stream.signal,
    });
    read.push(streamed.status);
    stream.abort();
    await send("DELETE");
    const gone = await send("POST", { id: 5, method: "ping" });
    return {
      read,
      session: session !== null,
      protocol: opened.result.protocolVersion,
      tools: listed.result.tools.map((tool) => tool.name),
      result: called.result.content[0].text,
      error: failed.error.message,
      gone: gone.error.code,
    };
  } catch (error) {
    return { read, refused: `${error.name}: ${error.message}` };
  }
}
