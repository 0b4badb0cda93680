// An app's tests with draftd's schema in PGlite: no server, no daemon, no model.
//
//   npm install --save-dev @electric-sql/pglite
//   draftd migrate --sql > schema.sql
//   draftd stand-in --sql > fake_draft.sql
//   node --test
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { PGlite } from "@electric-sql/pglite";
import { DraftFailed, fromPostgres } from "../../../clients/js/draftd.js";

const SHOT = "https://cdn.example.com/shot.png";
let db;
let drafts;

before(async () => {
  db = await PGlite.create();
  for (const file of ["schema.sql", "fake_draft.sql"]) await db.exec(await readFile(file, "utf8"));
  drafts = fromPostgres(db);
});

after(() => db.close());

test("the app shows each option as it becomes ready", async () => {
  const { id } = await drafts.create({ image_urls: [SHOT], context: "Yes" });
  const seen = [];
  await db.query("SELECT fake_draft($1, options_ready => 1)", [id]);
  for await (const option of drafts.stream(id, { timeoutMs: 20_000 })) {
    if (seen.push(option.length) === 1) await db.query("SELECT fake_draft($1)", [id]);
  }
  assert.deepEqual(seen, ["short", "medium", "detailed"]);
});

test("the app warns of a reply to an email that the model is not sure of", async () => {
  const { id } = await drafts.create({ image_urls: [SHOT], options: { lengths: ["short"] } });
  await db.query("SELECT fake_draft($1, platform => 'email', result => $2)", [id, { confidence: "low" }]);
  const { result } = await drafts.wait(id, { timeoutMs: 20_000 });
  assert.equal(result.platform, "email");
  assert.equal(result.confidence, "low");
  assert.equal(result.options.length, 1);
});

test("the app says what to do about a picture that cannot be read", async () => {
  const { id } = await drafts.create({ image_urls: [SHOT] });
  await db.query("SELECT fake_draft($1, error_code => 'image_invalid')", [id]);
  await assert.rejects(async () => {
    for await (const _ of drafts.stream(id, { timeoutMs: 20_000 }));
  }, (error) => error instanceof DraftFailed && error.reply.error_details.action === "resend");
});
