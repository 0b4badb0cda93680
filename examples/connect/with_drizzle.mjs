// Draft replies to a screenshot with Drizzle:  DATABASE_URL=… node with_drizzle.mjs IMAGE_URL [WHAT_TO_SAY]
//
// The columns that an app uses, as `drizzle-kit pull` writes them. draftd owns the table: leave it out of your own migrations
// (`tablesFilter: ["!draft_*"]` in drizzle.config.ts).

import { eq, sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/node-postgres";
import { jsonb, pgTable, text, uuid } from "drizzle-orm/pg-core";
import pg from "pg";

const FINAL = ["completed", "failed", "cancelled"];

export const draftRequests = pgTable("draft_requests", {
  id: uuid().primaryKey().defaultRandom(),
  requesterId: text("requester_id").notNull().default(""),
  imageUrls: text("image_urls").array().notNull(),
  context: text(),
  status: text().notNull().default("pending"),
  result: jsonb(),
  errorMessage: text("error_message"),
});

const [image_url, context] = process.argv.slice(2);
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const db = drizzle(pool);
try {
  // Through the function, so that only the given columns are named and repeating it is safe.
  const request = JSON.stringify({ image_urls: [image_url], context, idempotency_key: crypto.randomUUID() });
  const made = await db.execute(sql`SELECT create_draft_request(${request}::jsonb) AS made`);
  const { id } = made.rows[0].made;
  const { status, result, errorMessage } = draftRequests;
  let row;
  do {
    await new Promise((resolve) => setTimeout(resolve, 500));
    [row] = await db.select({ status, result, errorMessage }).from(draftRequests).where(eq(draftRequests.id, id));
  } while (row && !FINAL.includes(row.status));
  for (const option of row?.result?.options ?? []) console.log(`${option.length}: ${option.text}\n`);
  if (!row?.result) {
    console.error(row ? `${row.status}: ${row.errorMessage}` : "the request was deleted");
    process.exitCode = 1;
  }
} finally {
  await pool.end();
}
