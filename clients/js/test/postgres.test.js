// Run by tests/integration/test_client_js.py: CLIENT_URL is an app's role, OWNER_URL plays the daemon.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { EventEmitter } from "node:events";
import { after, before, test } from "node:test";

import pg from "pg";

import { DraftFailed, fromPostgres, NotFound } from "../draftd.js";

const URL_OF_PICTURE = "https://images.example/shot.png";
const TEXTS = { short: "Yes.", medium: "Yes, Friday is fine.", detailed: "Yes, Friday is fine. See you at ten." };
let owner;
let pool;
let drafts;

before(async () => {
  owner = new pg.Client(process.env.OWNER_URL);
  await owner.connect();
  pool = new pg.Pool({ connectionString: process.env.CLIENT_URL, max: 4 });
  drafts = fromPostgres(pool);
});

after(async () => {
  await pool.end();
  await owner.end();
});

const result = (...lengths) => ({
  schema_version: 1,
  options: lengths.map((length) => ({ length, angle: "agrees", text: TEXTS[length], unsupported: [] })),
});
const write = (id, assignments, ...params) =>
  owner.query(`UPDATE draft_requests SET ${assignments} WHERE id = $1`, [id, ...params]);
const claim = (id) => write(id, "status = 'processing', attempt = attempt + 1, lease_token = lease_token + 1");
const publish = (id, ...lengths) => write(id, "partial_result = $2", result(...lengths));
const complete = (id) => write(id, "status = 'completed', result = $2", result(...Object.keys(TEXTS)));

test("a request is created once however often it is sent", async () => {
  const request = { image_urls: [URL_OF_PICTURE], requester_id: "u", idempotency_key: randomUUID() };
  const first = await drafts.create(request);
  const second = await drafts.create(request);
  assert.deepEqual([first.created, second.created, second.id], [true, false, first.id]);
});

test("a row that the database does not take is refused with its reason", async () => {
  await assert.rejects(drafts.create({ image_urls: [] }), /1 to 8 entries/);
});

test("options are streamed as they become ready", async () => {
  const { id } = await drafts.create({ image_urls: [URL_OF_PICTURE] });
  await claim(id);
  const seen = [];
  await publish(id, "short");
  for await (const option of drafts.stream(id, { timeoutMs: 30_000 })) {
    seen.push(option.length);
    if (option.length === "short") await publish(id, "short", "medium");
    if (option.length === "medium") await complete(id);
  }
  assert.deepEqual(seen, ["short", "medium", "detailed"]);
});

test("a stream of a failed request ends with what its user is told", async () => {
  const { id } = await drafts.create({ image_urls: [URL_OF_PICTURE] });
  await claim(id);
  await write(id, "status = 'failed', error_code = 'image_gone', error_message = 'The picture is gone.'");
  await assert.rejects(
    async () => {
      for await (const option of drafts.stream(id)) assert.fail(option.text);
    },
    (error) => error instanceof DraftFailed && error.reply.error_code === "image_gone",
  );
});

test("a refinement belongs to the requester of its parent", async () => {
  const parent = await drafts.create({ image_urls: [URL_OF_PICTURE], requester_id: "u" });
  await claim(parent.id);
  await complete(parent.id);
  const child = await drafts.refine(parent.id, { context: "shorter" });
  assert.equal((await drafts.get(child.id)).status, "pending");
  await assert.rejects(drafts.refine(randomUUID()), NotFound);
});

test("a waiting request can be cancelled, and feedback and a profile are kept", async () => {
  const { id } = await drafts.create({ image_urls: [URL_OF_PICTURE], requester_id: "u" });
  assert.equal(await drafts.cancel(id), true);
  assert.equal(await drafts.cancel(id), false);
  await drafts.profile("u", { facts: ["my course was CS"], me: "Ana" });
  const profile = await drafts.profile("u", { me: "Ana B." });
  assert.deepEqual([profile.me, profile.facts], ["Ana B.", ["my course was CS"]]);
  await assert.rejects(drafts.profile("u", { "me = 'x'; --": 1 }), TypeError);
});

test("a wait can be given up, by time and by a signal", async () => {
  const { id } = await drafts.create({ image_urls: [URL_OF_PICTURE] });
  await assert.rejects(drafts.wait(id, { timeoutMs: 20 }), { name: "TimeoutError" });
  await assert.rejects(drafts.wait(id, { signal: AbortSignal.timeout(20) }), { name: "TimeoutError" });
});

test("a thousand waits share one connection and leave nothing behind", async () => {
  const warnings = [];
  process.on("warning", (warning) => warnings.push(warning));
  const { id } = await drafts.create({ image_urls: [URL_OF_PICTURE] });
  await claim(id);
  const waits = Array.from({ length: 1000 }, () => drafts.wait(id, { timeoutMs: 60_000 }));
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.ok(pool.totalCount <= 4);
  await complete(id);
  const replies = await Promise.all(waits);
  assert.ok(replies.every((reply) => reply.status === "completed"));
  assert.equal(pool.totalCount, pool.idleCount);
  const client = await pool.connect();
  assert.equal(client.listenerCount("notification"), 0);
  client.release();
  assert.deepEqual(warnings, []);
});

test("waits one after the other leave no listener either", async () => {
  for (let n = 0; n < 20; n += 1) {
    const { id } = await drafts.create({ image_urls: [URL_OF_PICTURE] });
    await claim(id);
    await complete(id);
    await drafts.wait(id);
  }
  assert.equal(pool.totalCount, pool.idleCount);
});

test("a wait outlives the connection that it hears on", async () => {
  const { id } = await drafts.create({ image_urls: [URL_OF_PICTURE] });
  await claim(id);
  const waiting = drafts.wait(id, { timeoutMs: 60_000 });
  await new Promise((resolve) => setTimeout(resolve, 100));
  await owner.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()");
  await complete(id);
  assert.equal((await waiting).status, "completed");
});

test("a connected client does as well as a pool", async () => {
  const client = new pg.Client(process.env.CLIENT_URL);
  await client.connect();
  const single = fromPostgres(client);
  const { id } = await single.create({ image_urls: [URL_OF_PICTURE] });
  await claim(id);
  const waiting = single.wait(id);
  await complete(id);
  assert.equal((await waiting).status, "completed");
  assert.equal(client.listenerCount("notification"), 0);
  await client.end();
});

test("a wait that begins while the last one ends is notified", async () => {
  const sent = [];
  const client = Object.assign(new EventEmitter(), { query: async (text) => (sent.push(text), { rows: [] }) });
  const { backend } = fromPostgres(client);
  const rung = [];
  const silence = await backend.listen("a", () => rung.push("a"));
  const [, again] = await Promise.all([silence(), backend.listen("b", () => rung.push("b"))]);
  assert.equal(sent.at(-1), "LISTEN draft_results");
  client.emit("notification", { channel: "draft_results", payload: '{"id": "b"}' });
  assert.deepEqual(rung, ["b"]);
  await again();
  assert.deepEqual([sent.at(-1), client.listenerCount("notification")], ["UNLISTEN draft_results", 0]);
});

test("a pool of one connection reads while it waits", async () => {
  const one = new pg.Pool({ connectionString: process.env.CLIENT_URL, max: 1 });
  const { id } = await drafts.create({ image_urls: [URL_OF_PICTURE] });
  await claim(id);
  await complete(id);
  const ended = fromPostgres(one).wait(id);
  const late = new Promise((resolve) => setTimeout(resolve, 20_000, { status: "late" }).unref());
  assert.equal((await Promise.race([ended, late])).status, "completed");
  await one.end();
});
