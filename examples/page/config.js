// Your project. Nothing here is secret: what a user may do is decided by the user's own token.
export default {
  rest: "https://PROJECT.supabase.co/rest/v1", // PostgREST, wherever it is
  auth: "https://PROJECT.supabase.co/auth/v1", // Supabase Auth; null: users paste an access token
  key: "sb_publishable_KEY", // the publishable (anon) key; null where the gateway wants none
  schema: "public",
};
