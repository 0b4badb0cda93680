// Compiled by tests/integration/test_client_js.py, never run.

import { PGlite } from "@electric-sql/pglite";
import { createClient } from "@supabase/supabase-js";

import {
  fromPostgres,
  fromSupabase,
  type CreatedDraftRequest,
  type Database,
  type DraftReply,
  type DraftResult,
  type NewDraftRequest,
  type Platform,
} from "../draftd.js";

const request: NewDraftRequest = { image_urls: ["https://x.example/1.png"], options: { stance: "accept", facts: ["a"] } };
// @ts-expect-error  an unknown option is refused
const wrong: NewDraftRequest = { options: { mood: "warm" } };
// A value that a later version adds is accepted.
const platform: Platform = "mastodon";

function texts(result: DraftResult): string[] {
  switch (result.platform) {
    case "linkedin":
      return [];
    default:
      return result.options.map((option) => `${option.length}: ${option.text} ${option.translation ?? ""}`);
  }
}

export async function use(pool: { query: (text: string, values?: any[]) => Promise<{ rows: any[] }> }): Promise<string[]> {
  const drafts = fromPostgres(pool);
  const { id } = await drafts.create(request);
  for await (const option of drafts.stream(id, { timeoutMs: 1000 })) console.log(option.text, platform, wrong);
  const reply = await drafts.wait(id);
  return reply.result ? texts(reply.result) : [];
}

export const in_tests = fromPostgres(new PGlite());

export const end_user = fromSupabase(createClient("https://x.supabase.co", "key"), { topic: "draftd:1" });

const supabase = createClient<Database>("https://x.supabase.co", "key");

export async function read(): Promise<DraftReply[]> {
  const { data: made } = await supabase.rpc("create_draft_request", { request });
  const created: CreatedDraftRequest | null = made;
  await supabase.from("draft_requests").update({ status: "cancelled" }).eq("id", created?.id ?? "");
  // @ts-expect-error  a client sets no other status
  await supabase.from("draft_requests").update({ status: "completed" }).eq("id", "1");
  await supabase.from("draft_feedback").insert({ request_id: "1", option: "short", rating: 1 });
  // @ts-expect-error  feedback is about a request
  await supabase.from("draft_feedback").insert({ option: "short" });
  await supabase.from("draft_profiles").upsert({ me: "Ana" });
  const { data } = await supabase.from("draft_replies").select().eq("status", "completed");
  const one = await supabase.from("draft_replies").select("result").single();
  const text: string | undefined = one.data?.result?.options[0]?.text;
  return text ? (data ?? []) : [];
}

type Own = Database<"drafts"> & { public: { Tables: {}; Views: {}; Functions: {} } };
export const own = createClient<Own>("https://x.supabase.co", "key").schema("drafts").from("draft_replies");
