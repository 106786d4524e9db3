// The TypeScript SDK's client at a gateway in front of `first` and `second` (tests/support/sdk_rich_server.py):
//
//     node ts_client.mjs SDK_FOLDER URL
//
// prints what it got as one JSON object. It judges nothing; the test does.

import { pathToFileURL } from "node:url";
import path from "node:path";

const [folder, url] = process.argv.slice(2);
const load = (file) => import(pathToFileURL(path.join(folder, "dist", "esm", file)));
const { Client } = await load("client/index.js");
const { StreamableHTTPClientTransport } = await load("client/streamableHttp.js");
const types = await load("types.js");

const NAMES = ["first", "second"];
const client = new Client(
  { name: "ts", version: "0" },
  { capabilities: { sampling: {}, elicitation: { form: {} }, roots: { listChanged: true } } },
);

const ids = [];
client.setRequestHandler(types.CreateMessageRequestSchema, (request, extra) => {
  ids.push(extra.requestId);
  const text = `<${request.params.messages[0].content.text}>`;
  return { role: "assistant", content: { type: "text", text }, model: "test" };
});
client.setRequestHandler(types.ElicitRequestSchema, (request, extra) => {
  ids.push(extra.requestId);
  return { action: "accept", content: { answer: `<${request.params.message}>` } };
});
client.setRequestHandler(types.ListRootsRequestSchema, (_, extra) => {
  ids.push(extra.requestId);
  return { roots: [{ uri: "file:///home" }] };
});

// Promises of what servers say, in the order in which it is awaited.
const listeners = [];
const heard = (wanted) => new Promise((resolve) => listeners.push({ wanted, resolve }));
const hear = (what) => {
  for (const listener of listeners) if (listener.wanted(what)) listener.resolve(what);
};
client.setNotificationHandler(types.LoggingMessageNotificationSchema, ({ params }) => hear(params));
for (const [kind, schema] of Object.entries({
  tools: types.ToolListChangedNotificationSchema,
  prompts: types.PromptListChangedNotificationSchema,
  resources: types.ResourceListChangedNotificationSchema,
})) {
  client.setNotificationHandler(schema, () => hear({ changed: kind }));
}

const text = (result) => result.content[0].text;
const call = async (name, args = {}) => text(await client.callTool({ name, arguments: args }));
const callAll = (tool, args = {}) => Promise.all(NAMES.map((name) => call(`${name}__${tool}`, args)));

const transport = new StreamableHTTPClientTransport(new URL(url));
await client.connect(transport);
const told = { version: transport.protocolVersion, tools: (await client.listTools()).tools.map((tool) => tool.name) };

told.who = await callAll("who", { n: 1 });
const progress = [];
await client.callTool({ name: "second__count", arguments: { to: 3 } }, undefined, {
  onprogress: (step) => progress.push(step.message),
});
told.progress = progress;

told.prompts = (await client.listPrompts()).prompts.map((prompt) => prompt.name);
const prompt = await client.getPrompt({ name: "second__greet", arguments: { who: "you" } });
told.prompt = [prompt.messages[0].content.text, prompt.messages[1].content.resource.uri];
told.notes = (await client.listResources()).resources.filter((r) => r.name === "note").map((r) => r.uri);
told.read = await Promise.all(told.notes.map(async (uri) => (await client.readResource({ uri })).contents[0].text));
const ref = { type: "ref/prompt", name: "second__greet" };
told.completion = (await client.complete({ ref, argument: { name: "who", value: "A" } })).completion.values;

told.sampled = await callAll("sample", { prompt: "x", own_stream: false });
told.elicited = await callAll("ask", { question: "x", own_stream: false });
told.answered = await call("second__hang_up");

// The streams of both servers are open as soon as a message came on each. Until then messages are sent again and again.
await Promise.all(
  NAMES.map(async (name) => {
    let open = false;
    const opened = heard((log) => log.logger === `${name}/same`).then(() => (open = true));
    while (!open) await call(`${name}__log`, { level: "info", text: "hello", own_stream: true });
    await opened;
  }),
);
told.sampledOnStream = await callAll("sample", { prompt: "y", own_stream: true });
told.roots = await callAll("roots");
const changes = ["tools", "prompts", "resources"].map((kind) => heard((what) => what.changed === kind));
await call("second__grow");
told.changed = (await Promise.all(changes)).map((what) => what.changed);
told.grown = (await client.listTools()).tools.map((tool) => tool.name).filter((name) => name.endsWith("grown"));
told.ids = ids;

await transport.terminateSession();
await client.close();
console.log(JSON.stringify(told));
