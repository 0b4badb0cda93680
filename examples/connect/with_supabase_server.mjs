// Draft replies to a screenshot on a server, for any of its users:
//   SUPABASE_URL=… SUPABASE_SECRET_KEY=<service_role> USER_ID=… node with_supabase_server.mjs IMAGE_URL [WHAT_TO_SAY]

import { createClient } from "@supabase/supabase-js";

import { DraftFailed, fromSupabase } from "../../clients/js/draftd.js"; // copied into your app: "./draftd.js"

const [image_url, context] = process.argv.slice(2);
const { SUPABASE_URL, SUPABASE_SECRET_KEY, USER_ID } = process.env;

const supabase = createClient(SUPABASE_URL, SUPABASE_SECRET_KEY, {
  auth: { persistSession: false },
  realtime: { transport: globalThis.WebSocket ?? class {} }, // Node.js 20 has none
});
const drafts = fromSupabase(supabase);
try {
  // With the user's id, the user may read the request too.
  const { id } = await drafts.create({ requester_id: USER_ID, image_urls: [image_url], context });
  for await (const option of drafts.stream(id, { timeoutMs: 120_000 })) {
    console.log(`${option.length}: ${option.text}\n`);
  }
} catch (error) {
  if (!(error instanceof DraftFailed)) throw error;
  console.error(`${error.reply.status}: ${error.message}`);
  process.exitCode = 1;
}
