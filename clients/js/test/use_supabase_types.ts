// What an app writes with the types that `supabase gen types` makes of draftd's tables; compiled, never run.

import { createClient } from "@supabase/supabase-js";

import type { Database, Tables, TablesInsert } from "./database.js";

const supabase = createClient<Database>("https://x.supabase.co", "key");
const request: TablesInsert<"draft_requests"> = { image_urls: ["https://x.example/1.png"], options: { tone: "warm" } };
// @ts-expect-error  there is no such column
const wrong: TablesInsert<"draft_requests"> = { image_url: "https://x.example/1.png" };
const rating: TablesInsert<"draft_feedback"> = { request_id: "1", option: "short", outcome: "sent" };
const profile: TablesInsert<"draft_profiles"> = { me: "Ana", facts: ["a"] };

export async function use(): Promise<Tables<"draft_replies">[]> {
  await supabase.from("draft_requests").insert(request);
  await supabase.from("draft_feedback").insert(rating);
  await supabase.from("draft_profiles").upsert(profile);
  const created: { data: unknown } = await supabase.rpc("create_draft_request", { request: { context: "Hi" } });
  const cancelled = await supabase.rpc("cancel_draft_request", { id: "1" });
  const wait = await supabase.rpc("draft_request_wait", { id: "1" });
  if (cancelled.data === true) console.log(created.data, wait.data, wrong);
  const replies = await supabase.from("draft_replies").select("*").eq("requester_id", "ana");
  const statuses: string[] = (await supabase.from("draft_requests").select("status")).data?.map((one) => one.status) ?? [];
  return statuses.length > 0 ? (replies.data ?? []) : [];
}
