// Compiled by tests/integration/test_client_js.py, never run.

import { createClient } from "@supabase/supabase-js";

import { fromPostgres, fromSupabase, type DraftResult, type NewDraftRequest, type Platform } from "../draftd.js";

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

export const end_user = fromSupabase(createClient("https://x.supabase.co", "key"), { topic: "draftd:1" });
