// Run by tests/integration/test_client_supabase.py, with a stand-in for PostgREST; OWNER_URL plays the daemon.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";

import { createClient } from "@supabase/supabase-js";
import pg from "pg";

import { DraftFailed, fromSupabase, NotFound } from "../draftd.js";

const { SUPABASE_URL, ANON_TOKEN, ADA_TOKEN, BEN_TOKEN, SERVER_TOKEN, OWNER_URL, SCHEMA } = process.env;
const PICTURE = ["https://images.example/shot.png"];
const RESULT = { schema_version: 1, options: [{ length: "short", angle: "agrees", text: "Yes.", unsupported: [] }] };
const DENIED = { code: "42501" };

// Node.js 20 has no WebSocket; nothing here connects to Realtime.
const as = (token) =>
  createClient(SUPABASE_URL, ANON_TOKEN, {
    accessToken: async () => token,
    db: { schema: SCHEMA },
    realtime: { transport: class {} },
  });
const [ada, ben, nobody, server] = [ADA_TOKEN, BEN_TOKEN, ANON_TOKEN, SERVER_TOKEN].map(as);
const mine = fromSupabase(ada);
let owner;

before(async () => {
  owner = new pg.Client(OWNER_URL);
  await owner.connect();
  await owner.query(`SET search_path = ${SCHEMA}`);
});

after(() => owner.end());

const write = (id, assignments, ...params) =>
  owner.query(`UPDATE draft_requests SET ${assignments} WHERE id = $1`, [id, ...params]);
const complete = async (id) => {
  await write(id, "status = 'processing', attempt = attempt + 1, lease_token = lease_token + 1");
  await write(id, "status = 'completed', result = $2", RESULT);
};
const drafted = async (request = {}) => {
  const { id } = await mine.create({ image_urls: PICTURE, ...request });
  await complete(id);
  return id;
};

test("a user creates a request once, and waits for the drafts", async () => {
  const request = { image_urls: PICTURE, context: "c", options: { tone: "warm" }, idempotency_key: randomUUID() };
  const first = await mine.create(request);
  const second = await mine.create(request);
  assert.deepEqual([first.created, second.created, second.id], [true, false, first.id]);
  await complete(first.id);
  const reply = await mine.wait(first.id);
  assert.deepEqual([reply.status, reply.result], ["completed", RESULT]);
});

test("options are streamed as they become ready", async () => {
  const { id } = await mine.create({ image_urls: PICTURE });
  await write(id, "status = 'processing', attempt = 1, lease_token = 1");
  await write(id, "partial_result = $2", RESULT);
  const seen = [];
  const streaming = (async () => {
    for await (const option of mine.stream(id)) {
      seen.push(option.text);
      await write(id, "status = 'failed', error_code = 'model_timeout', error_message = 'Too slow.'");
    }
  })();
  await assert.rejects(streaming, (error) => error instanceof DraftFailed && error.message === "Too slow.");
  assert.deepEqual(seen, ["Yes."]);
});

test("a user refines, cancels, rates, and keeps a profile", async () => {
  const id = await drafted();
  const child = await mine.refine(id, { context: "shorter" });
  assert.equal(await mine.cancel(child.id), true);
  assert.equal(await mine.cancel(child.id), false);
  await mine.feedback(id, { option: "short", sent_text: "Yes.", outcome: "sent", rating: 1 });
  const { rows } = await owner.query("SELECT requester_id, drafted_text FROM draft_feedback WHERE request_id = $1", [id]);
  assert.deepEqual(rows, [{ requester_id: "ada", drafted_text: "Yes." }]);
  await mine.profile("ada", { me: "Ada", facts: ["My course was CS."] });
  const profile = await mine.profile("ada", { signature: "A." });
  assert.deepEqual([profile.me, profile.facts, profile.signature], ["Ada", ["My course was CS."], "A."]);
  assert.deepEqual(await mine.profile("ada"), profile);
});

test("a user deletes a conversation", async () => {
  const id = await drafted();
  const child = await mine.refine(id);
  const unfinished = await ada.from("draft_replies").delete().eq("id", id);
  assert.deepEqual([unfinished.status, unfinished.error.code], [400, "23514"]);
  await mine.cancel(child.id);
  const { data } = await ada.from("draft_replies").delete().eq("id", child.id).select();
  assert.deepEqual(data.map((row) => row.id), [child.id]);
  await assert.rejects(mine.get(id), NotFound);
});

test("the calls of docs/connect/supabase.md do what it says", async () => {
  const request_id = await drafted();
  const { data: list } = await ada.from("draft_replies").select().order("created_at", { ascending: false }).limit(1);
  assert.deepEqual([list[0].id, "cost_usd" in list[0], "image_urls" in list[0]], [request_id, false, false]);
  const whole = await ada.from("draft_requests").select();
  assert.deepEqual([whole.status, whole.error.code], [403, "42501"]);
  const inserted = await ada.from("draft_requests").insert({ image_urls: PICTURE }).select();
  assert.deepEqual([inserted.status, inserted.error.code], [403, "42501"]);
  const named = await ada.from("draft_requests").insert({ image_urls: PICTURE }).select("id, status, requester_id").single();
  assert.deepEqual([named.data.status, named.data.requester_id], ["pending", "ada"]);
  const cancelled = await ada.from("draft_requests").update({ status: "cancelled" }).eq("id", named.data.id);
  assert.equal(cancelled.status, 204);
  assert.equal((await mine.get(named.data.id)).status, "cancelled");
  const rated = await ada.from("draft_feedback").insert({ request_id, option: "short", outcome: "sent", sent_text: "Yes." });
  assert.equal(rated.status, 201);
  const key = randomUUID();
  assert.equal((await ada.from("draft_requests").insert({ image_urls: PICTURE, idempotency_key: key })).status, 201);
  const again = await ada.from("draft_requests").insert({ image_urls: PICTURE, idempotency_key: key });
  assert.deepEqual([again.status, again.error.code], [409, "23505"]);
  const version = await ada.from("draft_settings").select("schema_revision").single();
  assert.match(version.data.schema_revision, /^\d{4}$/);
});

test("another user's request is not there", async () => {
  const id = await drafted();
  const theirs = fromSupabase(ben);
  await assert.rejects(theirs.get(id), NotFound);
  await assert.rejects(theirs.refine(id), NotFound);
  await assert.rejects(theirs.create({ parent_id: id }), { code: "23503" });
  await assert.rejects(theirs.feedback(id, { rating: 1 }), { code: "23503" });
  await assert.rejects(theirs.create({ image_urls: PICTURE, requester_id: "ada" }), DENIED);
  await assert.rejects(theirs.create({ image_urls: PICTURE, priority: 9 }), DENIED);
  await assert.rejects(theirs.profile("ada", { me: "Ben" }), DENIED);
  assert.equal(await theirs.profile("ada"), null);
  const { id: open } = await mine.create({ image_urls: PICTURE });
  assert.equal(await theirs.cancel(open), false);
  const { data } = await ben.from("draft_replies").delete().eq("id", id).select();
  assert.deepEqual([data, (await mine.get(id)).status], [[], "completed"]);
});

test("nobody may do anything", async () => {
  const drafts = fromSupabase(nobody);
  const id = await drafted();
  for (const attempt of [
    () => drafts.create({ image_urls: PICTURE }),
    () => drafts.get(id),
    () => drafts.cancel(id),
    () => drafts.feedback(id, { rating: 1 }),
    () => drafts.profile("", { me: "Nobody" }),
  ])
    await assert.rejects(attempt(), DENIED);
  assert.equal((await nobody.from("draft_replies").select()).status, 401);
});

test("a server acts for everybody", async () => {
  const drafts = fromSupabase(server);
  const { id } = await drafts.create({ image_urls: PICTURE, requester_id: "ada" });
  assert.equal((await mine.get(id)).status, "pending");
  const child = await drafts.refine(await drafted(), { context: "shorter" });
  assert.equal((await mine.get(child.id)).status, "pending");
  const nameless = await drafts.create({ image_urls: PICTURE });
  const { data } = await server.from("draft_replies").select("requester_id").in("id", [id, nameless.id]).order("requester_id");
  assert.deepEqual(data, [{ requester_id: "" }, { requester_id: "ada" }]);
  assert.equal(await drafts.cancel(nameless.id), true);
  const change = await server.from("draft_requests").update({ priority: 1 }).eq("id", id);
  assert.deepEqual([change.status, change.error.code], [403, "42501"]);
});

test("a limit is told as one", async () => {
  const refused = { data: null, error: { code: "PT429", message: "too many" } };
  await assert.rejects(fromSupabase({ rpc: async () => refused }).create({ image_urls: PICTURE }), { name: "TooManyPending" });
});

test("a broadcast wakes the wait, and the channel ends with the last of them", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] }); // no poll ever comes
  const channels = new Map();
  const realtime = {
    rpc: (...given) => ada.rpc(...given),
    from: (...given) => ada.from(...given),
    channel: (topic, options) => {
      const channel = { options, on: (kind, { event }, ring) => Object.assign(channel, { kind, event, ring }), subscribe: () => channel };
      channels.set(topic, channel);
      return channel;
    },
    getChannels: () => [...channels.keys()].map((topic) => ({ topic: `realtime:${topic}` })),
    removeChannel: async (channel) => channels.forEach((one, topic) => one === channel && channels.delete(topic)),
  };
  const drafts = fromSupabase(realtime, { topic: "draftd:ada" });
  const { id } = await drafts.create({ image_urls: PICTURE });
  const first = drafts.follow(id);
  assert.equal((await first.next()).value.status, "pending");
  const channel = channels.get("draftd:ada");
  assert.deepEqual([channel.kind, channel.event, channel.options], ["broadcast", "draft", { config: { private: true } }]);
  const second = drafts.wait(id);
  await complete(id);
  channel.ring({ payload: { id, status: "completed", options_ready: 1 } });
  assert.equal((await first.next()).value.status, "completed");
  await first.next();
  await second;
  assert.equal(channels.size, 0);
});

test("a wait that begins while the channel is removed has one of its own, and the app keeps its channel", async () => {
  const channels = new Set();
  const removals = [];
  const realtime = {
    getChannels: () => [...channels],
    channel: (name) => {
      const topic = `realtime:${name}`;
      const known = [...channels].find((one) => one.topic === topic);
      const channel = known ?? { topic, on: () => channel, subscribe: () => channel };
      channels.add(channel);
      return channel;
    },
    removeChannel: (channel) => new Promise((resolve) => removals.push(() => resolve(channels.delete(channel)))),
  };
  const { backend } = fromSupabase(realtime, { topic: "draftd:ada" });
  const ending = (await backend.listen("a", () => {}))();
  const beginning = backend.listen("b", () => {});
  removals.pop()();
  await ending;
  const silence = await beginning;
  assert.equal(channels.size, 1);
  const silenced = silence();
  removals.pop()();
  await silenced;
  assert.equal(channels.size, 0);
  realtime.channel("draftd:ada");
  await (await backend.listen("c", () => {}))();
  assert.deepEqual([channels.size, removals.length], [1, 0]);
});
