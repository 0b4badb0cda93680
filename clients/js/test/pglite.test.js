// Run by tests/integration/test_client_js.py: SCHEMA is a file with the tables.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";

import { PGlite } from "@electric-sql/pglite";

import { fromPostgres } from "../draftd.js";

const PICTURE = "https://images.example/shot.png";
const RESULT = { schema_version: 1, options: [{ length: "short", angle: "agrees", text: "Yes.", unsupported: [] }] };
let db;
let drafts;

before(async () => {
  db = await PGlite.create();
  await db.exec(await readFile(process.env.SCHEMA, "utf8"));
  drafts = fromPostgres(db);
});

after(() => db.close());

const write = (id, assignments, ...values) =>
  db.query(`UPDATE draft_requests SET ${assignments} WHERE id = $1`, [id, ...values]);

async function processing() {
  const { id } = await drafts.create({ image_urls: [PICTURE], requester_id: "u" });
  await write(id, "status = 'processing', attempt = 1, lease_token = 1");
  return id;
}

test("options are streamed from a client that cannot be listened to", async () => {
  const id = await processing();
  await write(id, "partial_result = $2", RESULT);
  const seen = [];
  for await (const option of drafts.stream(id, { timeoutMs: 30_000 })) {
    seen.push(option.length);
    await write(id, "status = 'completed', result = $2", RESULT);
  }
  assert.deepEqual(seen, ["short"]);
  assert.equal((await drafts.wait(id)).status, "completed");
});

test("a profile is kept, feedback is taken, and a request can be cancelled", async () => {
  const id = await processing();
  await drafts.feedback(id, { outcome: "rejected" });
  assert.deepEqual((await drafts.profile("u", { facts: ["my course was CS"] })).facts, ["my course was CS"]);
  assert.equal(await drafts.cancel(id), true);
});
