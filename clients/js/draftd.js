/**
 * A client of draftd in one file without dependencies: copy it into your app.
 *
 * `fromPostgres(pool)` takes a Pool or Client of node-postgres, with the rights that `draftd grants --preset backend` gives; or
 * anything else with its `query`, such as PGlite.
 * `fromSupabase(supabase)` takes a client of supabase-js, a server's or an end user's (`draftd grants --preset supabase`).
 * Both give the same methods; `draftd.d.ts` has their types.
 */

const FINAL = new Set(["completed", "failed", "cancelled"]);
const COLUMNS = "id, status, result, partial_result, error_code, error_message, error_details, attempt";
/** How often a request is read while nothing is heard, in milliseconds. */
const POLL_MS = 1000;

/** The request failed or was cancelled; `reply.partial_result` may hold options that can still be offered. */
export class DraftFailed extends Error {
  constructor(reply) {
    super(reply.error_message ?? `the request was ${reply.status}`);
    this.name = "DraftFailed";
    this.reply = reply;
  }
}

/** There is no such request, or it belongs to somebody else. */
export class NotFound extends Error {
  constructor(id) {
    super(`no request ${id}`);
    this.name = "NotFound";
  }
}

/** The requester has as many waiting requests as `draft_limits.max_pending` allows. */
export class TooManyPending extends Error {
  constructor(message) {
    super(message);
    this.name = "TooManyPending";
  }
}

/** A client over node-postgres: a Pool, or a Client that is connected. Over what has no `on`, such as PGlite, it polls. */
export function fromPostgres(pg) {
  return new Drafts(new Postgres(pg));
}

/**
 * A client over supabase-js.
 *
 * @param topic the private topic on which the preset broadcasts to this user: `draftd:` and the user's id. Without it, polling.
 */
export function fromSupabase(supabase, { topic } = {}) {
  return new Drafts(new Supabase(supabase, topic));
}

class Drafts {
  constructor(backend) {
    this.backend = backend;
  }

  /** Insert a request. It has an idempotency key in any case, so that repeating this after a network error is safe. */
  create(request) {
    const key = request.idempotency_key ?? globalThis.crypto.randomUUID();
    return this.backend.create({ ...request, idempotency_key: key });
  }

  /** Ask for changed drafts of an earlier request; without `context` and `options`, for other ones. */
  async refine(parentId, request = {}) {
    return this.create({ ...(await this.backend.owner(parentId)), ...request, parent_id: parentId });
  }

  /** Read a request. */
  async get(id) {
    const reply = await this.backend.get(id);
    if (!reply) throw new NotFound(id);
    return reply;
  }

  /** Cancel a request; false if it was final already. */
  cancel(id) {
    return this.backend.cancel(id);
  }

  /** Say what became of a draft: `{ option, sent_text, outcome, rating }`. */
  feedback(id, { option, sent_text, outcome, rating } = {}) {
    return this.backend.feedback({ request_id: id, option, sent_text, outcome, rating });
  }

  /** Set what is given of a requester's profile, and return all of it. */
  profile(requesterId, changes = {}) {
    return this.backend.profile(requesterId, changes);
  }

  /** Wait until a request is final, and return it. */
  async wait(id, options) {
    let last;
    for await (const reply of this.follow(id, options)) last = reply;
    return last;
  }

  /**
   * Yield the options of a request as they become ready. One of a length that came before replaces it: the request was tried
   * again. Throws `DraftFailed` at the end of a request that failed or was cancelled.
   */
  async *stream(id, options) {
    const seen = new Map();
    for await (const reply of this.follow(id, options)) {
      for (const option of (reply.result ?? reply.partial_result)?.options ?? []) {
        if (seen.get(option.length) === option.text) continue;
        seen.set(option.length, option.text);
        yield option;
      }
      if (FINAL.has(reply.status) && !reply.result) throw new DraftFailed(reply);
    }
  }

  /** Yield a request now and whenever something may have changed, until it is final. */
  async *follow(id, { timeoutMs = Infinity, signal } = {}) {
    const endsAt = Date.now() + timeoutMs;
    const ear = new Ear(signal);
    // Before the first look, or an end between the two is missed.
    const silence = await this.backend.listen(id, () => ear.ring());
    try {
      while (true) {
        signal?.throwIfAborted();
        const reply = await this.get(id);
        yield reply;
        if (FINAL.has(reply.status)) return;
        const leftMs = Math.min(POLL_MS, endsAt - Date.now());
        if (leftMs <= 0) throw new DOMException(`request ${id} is still ${reply.status}`, "TimeoutError");
        await ear.wait(leftMs);
      }
    } finally {
      await silence();
      ear.close();
    }
  }
}

/** Waits for a ring; a ring that came before counts. */
class Ear {
  constructor(signal) {
    this.signal = signal;
    this.ring = this.ring.bind(this);
    signal?.addEventListener("abort", this.ring);
  }

  ring() {
    this.rung = true;
    this.wake?.();
  }

  async wait(ms) {
    if (!this.rung) {
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, ms);
        this.wake = () => (clearTimeout(timer), resolve());
      });
    }
    this.rung = false;
    this.wake = undefined;
  }

  close() {
    this.signal?.removeEventListener("abort", this.ring);
  }
}

class Postgres {
  constructor(pg) {
    this.pg = pg;
    this.waiting = new Map();
    this.listener = undefined;
    this.heard = this.heard.bind(this);
  }

  async query(text, values) {
    try {
      return (await this.pg.query(text, values)).rows;
    } catch (error) {
      throw error.code === "PT429" ? new TooManyPending(error.message) : error;
    }
  }

  async create(request) {
    const [row] = await this.query("SELECT create_draft_request($1) AS made", [JSON.stringify(request)]);
    return row.made;
  }

  async owner(id) {
    const [row] = await this.query("SELECT requester_id FROM draft_requests WHERE id = $1", [id]);
    if (!row) throw new NotFound(id);
    return row;
  }

  async get(id) {
    return (await this.query(`SELECT ${COLUMNS} FROM draft_requests WHERE id = $1`, [id]))[0];
  }

  async cancel(id) {
    return (await this.query("SELECT cancel_draft_request($1) AS cancelled", [id]))[0].cancelled;
  }

  async feedback(row) {
    const { names, places, values } = columns(row);
    await this.query(`INSERT INTO draft_feedback (${names}) VALUES (${places})`, values);
  }

  async profile(requesterId, changes) {
    const { names, places, values, updates } = columns({ requester_id: requesterId, ...changes });
    if (updates) {
      const conflict = `ON CONFLICT (requester_id) DO UPDATE SET ${updates}`;
      await this.query(`INSERT INTO draft_profiles (${names}) VALUES (${places}) ${conflict}`, values);
    }
    const [row] = await this.query(`SELECT ${PROFILE.join(", ")} FROM draft_profiles WHERE requester_id = $1`, [requesterId]);
    return row ?? null;
  }

  /** Call `ring` at each notification of a request. All requests that are waited for share one connection. */
  async listen(id, ring) {
    // A pool of one has no connection to spare: the reads would wait for it for ever.
    if (!this.pg.on || this.pg.options?.max === 1) return async () => {};
    if (!this.waiting.has(id)) this.waiting.set(id, new Set());
    this.waiting.get(id).add(ring);
    this.listener ??= this.open();
    await this.listener;
    return async () => {
      const rings = this.waiting.get(id);
      rings.delete(ring);
      if (rings.size === 0) this.waiting.delete(id);
      if (this.waiting.size === 0) await this.close();
    };
  }

  async open() {
    const isPool = typeof this.pg.totalCount === "number";
    let client;
    let isOpen = true;
    const end = (isBroken) => {
      if (!isOpen || !client) return;
      isOpen = false;
      client.removeListener("notification", this.heard);
      client.removeListener("error", lost);
      if (isPool) client.release(isBroken);
    };
    const lost = () => {
      this.listener = undefined; // those who wait poll; the next wait listens again
      end(true);
    };
    try {
      client = isPool ? await this.pg.connect() : this.pg;
      client.on("notification", this.heard);
      client.on("error", lost);
      await client.query("LISTEN draft_results");
    } catch {
      lost();
    }
    return { client, end };
  }

  async close() {
    const opening = this.listener;
    const opened = await opening;
    // Meanwhile somebody may wait again, or another call may have closed it.
    if (!opened || this.waiting.size > 0 || this.listener !== opening) return;
    this.listener = undefined;
    try {
      await opened.client.query("UNLISTEN draft_results");
      opened.end(false);
    } catch {
      opened.end(true);
    }
  }

  heard({ channel, payload }) {
    if (channel !== "draft_results") return;
    // Anyone can notify: a payload is a hint and nothing else.
    for (const [id, rings] of this.waiting) if (payload.includes(id)) for (const ring of rings) ring();
  }
}

const PROFILE = ["me", "about", "facts", "signature", "voice_samples", "reader_language"];

/** The parts of an INSERT of the columns that are given; only known names, so that none can carry SQL. */
function columns(row) {
  const known = ["request_id", "option", "sent_text", "outcome", "rating", "requester_id", ...PROFILE];
  const unknown = Object.keys(row).filter((name) => !known.includes(name));
  if (unknown.length) throw new TypeError(`unknown: ${unknown.join(", ")}`);
  const names = Object.keys(row).filter((name) => row[name] !== undefined);
  return {
    names: names.join(", "),
    places: names.map((_, index) => `$${index + 1}`).join(", "),
    values: names.map((name) => row[name]),
    updates: names.filter((name) => name !== "requester_id").map((name) => `${name} = excluded.${name}`).join(", "),
  };
}

class Supabase {
  constructor(supabase, topic) {
    this.supabase = supabase;
    this.topic = topic;
    this.rings = new Set();
  }

  async create(request) {
    return ok(await this.supabase.rpc("create_draft_request", { request }));
  }

  async owner(id) {
    const row = ok(await this.supabase.from("draft_replies").select("requester_id").eq("id", id).maybeSingle());
    if (!row) throw new NotFound(id);
    return row;
  }

  async get(id) {
    return ok(await this.supabase.from("draft_replies").select(COLUMNS.replaceAll(" ", "")).eq("id", id).maybeSingle());
  }

  async cancel(id) {
    return ok(await this.supabase.rpc("cancel_draft_request", { id }));
  }

  async feedback(row) {
    columns(row);
    ok(await this.supabase.from("draft_feedback").insert(JSON.parse(JSON.stringify(row))));
  }

  async profile(requesterId, changes) {
    const { updates } = columns({ requester_id: requesterId, ...changes });
    const table = this.supabase.from("draft_profiles");
    if (updates) ok(await table.upsert({ requester_id: requesterId, ...changes }, { onConflict: "requester_id" }));
    return ok(await table.select(PROFILE.join(",")).eq("requester_id", requesterId).maybeSingle());
  }

  /** Call `ring` at each broadcast. One channel serves all waits, and ends with the last. */
  async listen(_id, ring) {
    if (!this.topic) return async () => {};
    this.rings.add(ring);
    // supabase-js has one channel per topic: it would return the one that is just being removed, or the app's own.
    await this.removing;
    const isTaken = () => this.supabase.getChannels().some(({ topic }) => topic === `realtime:${this.topic}`);
    if (!this.channel && isTaken()) return async () => void this.rings.delete(ring);
    this.channel ??= this.supabase
      .channel(this.topic, { config: { private: true } })
      .on("broadcast", { event: "draft" }, () => this.rings.forEach((one) => one()))
      .subscribe();
    return async () => {
      this.rings.delete(ring);
      if (this.rings.size > 0) return;
      const channel = this.channel;
      this.channel = undefined;
      this.removing = channel && this.supabase.removeChannel(channel);
      await this.removing;
    };
  }
}

function ok({ data, error }) {
  if (!error) return data;
  if (error.code === "PT429") throw new TooManyPending(error.message);
  throw Object.assign(new Error(error.message), { code: error.code, hint: error.hint });
}
