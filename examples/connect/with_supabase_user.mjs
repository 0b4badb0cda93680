// Draft replies to a screenshot as a signed-in user, with that user's own rights:
//   SUPABASE_URL=… SUPABASE_KEY=<publishable key> USER_TOKEN=<the session's access token> node with_supabase_user.mjs IMAGE_URL [WHAT_TO_SAY]

import { createClient } from "@supabase/supabase-js";

import { DraftFailed, fromSupabase } from "../../clients/js/draftd.js"; // copied into your app: "./draftd.js"

const [image_url, context] = process.argv.slice(2);
const { SUPABASE_URL, SUPABASE_KEY, USER_TOKEN } = process.env;

// In a browser, after supabase.auth.signInWith…: createClient(url, key) alone, and { topic: `draftd:${user.id}` } below for push.
const supabase = createClient(SUPABASE_URL, SUPABASE_KEY, {
  accessToken: async () => USER_TOKEN,
  realtime: { transport: globalThis.WebSocket ?? class {} }, // Node.js 20 has none
});
const drafts = fromSupabase(supabase);
try {
  const { id } = await drafts.create({ image_urls: [image_url], context });
  for await (const option of drafts.stream(id, { timeoutMs: 120_000 })) {
    console.log(`${option.length}: ${option.text}\n`);
  }
} catch (error) {
  if (!(error instanceof DraftFailed)) throw error;
  console.error(`${error.reply.status}: ${error.message}`);
  process.exitCode = 1;
}
