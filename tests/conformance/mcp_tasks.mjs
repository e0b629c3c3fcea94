// Tasks of 2025-11-25 and changed tools, as the official SDK for TypeScript has them, at the server of `make trial-mcp`.
//
//   node mcp_tasks.mjs FOLDER-WITH-NODE_MODULES URL
//
// A line of JSON for each check: {"name", "passed", "what"}.
import { pathToFileURL } from "node:url";
import { isDeepStrictEqual } from "node:util";

const [folder, url] = process.argv.slice(2);
const sdk = (file) => import(pathToFileURL(`${folder}/node_modules/@modelcontextprotocol/sdk/dist/esm/${file}`));
const { Client } = await sdk("client/index.js");
const { StreamableHTTPClientTransport } = await sdk("client/streamableHttp.js");
const { CallToolResultSchema, ElicitRequestSchema, ToolListChangedNotificationSchema } = await sdk("types.js");

const client = new Client({ name: "trial", version: "1" }, { capabilities: { elicitation: { form: {} } } });
const asked = [];
client.setRequestHandler(ElicitRequestSchema, ({ params }) => {
  asked.push(params);
  return { action: "accept", content: { confirm: true } };
});
let changed = () => {};
client.setNotificationHandler(ToolListChangedNotificationSchema, () => changed());

const related = "io.modelcontextprotocol/related-task";
const tasks = client.experimental.tasks;

async function seen(name, args) {
  const messages = [];
  for await (const message of tasks.callToolStream({ name, arguments: args }, CallToolResultSchema, { task: {} })) {
    messages.push(message);
  }
  return messages;
}

async function check(name, act, wanted) {
  try {
    const got = await act();
    console.log(JSON.stringify({ name, passed: isDeepStrictEqual(got, wanted), what: JSON.stringify(got) }));
  } catch (error) {
    console.log(JSON.stringify({ name, passed: false, what: String(error) }));
  }
}

await client.connect(new StreamableHTTPClientTransport(new URL(url)));
const support = async () => {
  const { tools } = await client.listTools();
  return ["greet", "slow_compute", "failing_job"].map((name) => tools.find((tool) => tool.name === name).execution?.taskSupport);
};
await check("tools say whether they can be tasks", support, [undefined, "optional", "required"]);

const computed = async () => {
  const messages = await seen("slow_compute", { seconds: 1, label: "x" });
  return [messages[0].type, messages.at(-1).type, messages.at(-1).result?.content[0].text];
};
await check("a call becomes a task and has its result", computed, ["taskCreated", "result", "computed x"]);

const confirmed = async () => {
  const messages = await seen("confirm_delete", { filename: "a.txt" });
  const id = messages[0].task.taskId;
  return [messages.at(-1).result?.content[0].text, asked.length, asked[0]?._meta?.[related]?.taskId === id];
};
await check("what a task asks is asked of the client", confirmed, ["deleted a.txt", 1, true]);

const failed = async () => {
  const messages = await seen("failing_job", {});
  const { task } = messages[0];
  return [(await tasks.getTask(task.taskId)).status, (await tasks.getTaskResult(task.taskId, CallToolResultSchema)).isError];
};
await check("what failed is failed", failed, ["failed", true]);

const cancelled = async () => {
  const stream = tasks.callToolStream({ name: "slow_compute", arguments: { seconds: 60 } }, CallToolResultSchema, { task: {} });
  const { task } = (await stream.next()).value;
  const answered = await tasks.cancelTask(task.taskId);
  return [task.status, answered.status, (await tasks.getTask(task.taskId)).status];
};
await check("a task is cancelled", cancelled, ["working", "cancelled", "cancelled"]);

const told = async () => {
  const before = (await client.listTools()).tools.length;
  const heard = new Promise((resolve) => { changed = resolve; });
  await client.callTool({ name: "test_trigger_tool_change", arguments: {} });
  await heard;
  const there = (await client.listTools()).tools.length - before;
  await client.callTool({ name: "test_trigger_tool_change", arguments: {} });
  return Math.abs(there);
};
await check("changed tools are told", told, 1);

await client.close();
process.exit(0);
