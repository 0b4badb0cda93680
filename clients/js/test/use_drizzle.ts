// What an app does with the file that `drizzle-kit pull` writes:  DATABASE_URL=… node use_drizzle.js [insert]

import { eq, sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/node-postgres";
import pg from "pg";

import { draftReplies, draftRequests } from "./schema.js";

type NewRequest = typeof draftRequests.$inferInsert;

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const db = drizzle(pool);

async function inserted(): Promise<string> {
  // An insert of Drizzle names every column, which only the owner may.
  const request: NewRequest = { imageUrls: ["https://x.example/1.png"], options: { tone: "warm" } };
  const [row] = await db.insert(draftRequests).values(request).returning({ id: draftRequests.id });
  return row!.id;
}

async function created(): Promise<string> {
  const request = JSON.stringify({ image_urls: ["https://x.example/1.png"], options: { tone: "warm" } });
  const { rows } = await db.execute<{ made: { id: string } }>(sql`SELECT create_draft_request(${request}::jsonb) AS made`);
  return rows[0]!.made.id;
}

const id = process.argv[2] === "insert" ? await inserted() : await created();
await db.update(draftRequests).set({ status: "cancelled" }).where(eq(draftRequests.id, id));
const [reply] = await db.select().from(draftReplies).where(eq(draftReplies.id, id));
console.log(JSON.stringify({ requester: reply?.requesterId, options: reply?.options, status: reply?.status }));
await pool.end();
