// Drafts through PostgREST, with the rights of the user who is signed in. Only the address and the public key are known here.
import config from "./config.js";

const KEPT = "draftd session";
const COLUMNS = "id,parent_id,context,options,status,result,partial_result,error_message,error_details,created_at";

/** A call failed. `isPassing`: it may work if it is repeated. */
export class ApiError extends Error {
  constructor(message, { isPassing = false } = {}) {
    super(message);
    this.isPassing = isPassing;
  }
}

/** Nobody is signed in any more; the event `signedout` has said so to the whole page. */
export class SignedOut extends ApiError {}

// The session: in this tab only, gone with it.

let session = JSON.parse(sessionStorage.getItem(KEPT));
let refreshing = null;

function keep(tokens) {
  session = tokens;
  if (tokens) sessionStorage.setItem(KEPT, JSON.stringify(tokens));
  else sessionStorage.removeItem(KEPT);
}

/** Return who is signed in, as the token says it (the server checks it), or null. */
export function user() {
  try {
    const payload = session.token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(payload), (one) => one.codePointAt(0));
    const { sub, email } = JSON.parse(new TextDecoder().decode(bytes));
    return sub ? { id: String(sub), name: String(email ?? sub) } : null;
  } catch {
    return null;
  }
}

export async function signIn(email, password) {
  await tokens("password", { email, password });
}

export function signInWith(token) {
  keep({ token: token.trim() });
  if (user()) return;
  keep(null);
  throw new ApiError("This is not an access token of a user.");
}

export const signOut = () => keep(null);

async function tokens(grant, body) {
  const response = await send(`${config.auth}/token?grant_type=${grant}`, "POST", headers(), body);
  const said = await response.json().catch(() => ({}));
  if (said.error_code === "invalid_credentials") throw new ApiError("This e-mail and password do not match.");
  if (!response.ok) throw new ApiError(said.msg ?? said.error_description ?? "Signing in did not work.");
  keep({ token: said.access_token, refresh: said.refresh_token });
}

// Calls

export const create = (request) => call("POST", "rpc/create_draft_request", { request });
export const cancel = (id) => call("POST", "rpc/cancel_draft_request", { id });
export const waitsFor = (id) => call("POST", "rpc/draft_request_wait", { id });
export const read = (ids) => call("GET", `draft_replies?select=${COLUMNS}&id=in.(${ids.join(",")})`);
export const sent = (ids) =>
  call("GET", `draft_feedback?select=request_id,option,outcome&option=not.is.null&request_id=in.(${ids.join(",")})&order=created_at`);

/** Return requests, newest first, from before a time. */
export function list(limit, before) {
  const earlier = before ? `&created_at=lt.${encodeURIComponent(before)}` : "";
  return call("GET", `draft_replies?select=${COLUMNS}&order=created_at.desc&limit=${limit}${earlier}`);
}

/** Say which reply was sent, and with which words; the database compares them with the draft. */
export async function rate(id, option, text) {
  const row = { request_id: id, option, sent_text: text };
  const [rated] = await call("POST", "draft_feedback?select=request_id,option,outcome", row, "return=representation");
  return rated;
}

/** Delete a finished request with its conversation; false if it is unfinished. Refused if another one of it is. */
export async function remove(id) {
  const gone = await call("DELETE", `draft_replies?select=id&id=eq.${id}`, undefined, "return=representation");
  return gone.length > 0;
}

async function call(method, path, body, prefer) {
  if (!session) throw new SignedOut("Nobody is signed in.");
  const profile = method === "GET" ? "Accept-Profile" : "Content-Profile";
  const more = { [profile]: config.schema, ...(prefer && { Prefer: prefer }) };
  const bearer = () => ({ Authorization: `Bearer ${session.token}` });
  const ask = () => send(`${config.rest}/${path}`, method, headers({ ...more, ...bearer() }), body);
  let response = await ask();
  if (response.status === 401 && session.refresh) {
    await refresh();
    response = await ask();
  }
  if (response.ok) return response.status === 204 ? null : response.json();
  if (response.status === 401) {
    keep(null);
    dispatchEvent(new CustomEvent("signedout", { detail: "Your session has ended. Sign in again to go on." }));
    throw new SignedOut("Your session has ended.");
  }
  throw refusal(response.status, await response.json().catch(() => ({})));
}

/** Get a new access token; calls at the same time share it. Where it is refused, the old one is, too. */
async function refresh() {
  refreshing ??= tokens("refresh_token", { refresh_token: session.refresh }).finally(() => (refreshing = null));
  await refreshing.catch((error) => {
    if (error.isPassing) throw error;
  });
}

const headers = (more = {}) => ({ "Content-Type": "application/json", ...(config.key && { apikey: config.key }), ...more });

async function send(url, method, sentHeaders, body) {
  let response;
  try {
    response = await fetch(url, { method, headers: sentHeaders, body: body && JSON.stringify(body), credentials: "omit" });
  } catch {
    throw new ApiError("The server cannot be reached. Are you online?", { isPassing: true });
  }
  if (response.status >= 500) throw new ApiError("The server has a problem. Please try again soon.", { isPassing: true });
  return response;
}

function refusal(status, { message }) {
  if (status === 413) return new ApiError("The screenshots are too large together. Send fewer, or smaller ones.");
  if (status === 429) return new ApiError("You have many requests waiting. Wait until some are done, or cancel one.");
  return new ApiError(message ?? `The server refused this (${status}).`);
}
