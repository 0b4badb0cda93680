// Draft replies to a screenshot with node-postgres:  DATABASE_URL=… node with_node_postgres.mjs IMAGE_URL [WHAT_TO_SAY]

import pg from "pg";

import { DraftFailed, fromPostgres } from "../../clients/js/draftd.js"; // copied into your app: "./draftd.js"

const [image_url, context] = process.argv.slice(2);
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const drafts = fromPostgres(pool);
try {
  const { id } = await drafts.create({ image_urls: [image_url], context });
  for await (const option of drafts.stream(id, { timeoutMs: 120_000 })) {
    console.log(`${option.length}: ${option.text}\n`);
  }
} catch (error) {
  if (!(error instanceof DraftFailed)) throw error;
  console.error(`${error.reply.status}: ${error.message}`);
  process.exitCode = 1;
} finally {
  await pool.end();
}
