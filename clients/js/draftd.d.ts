import type {
  CreatedDraftRequest,
  DraftProfile,
  DraftReply,
  NewDraftFeedback,
  NewDraftRequest,
  Option,
} from "./types.js";

export * from "./types.js";

/** A request, as the methods of this client return it. */
export type Reply = Pick<
  DraftReply,
  "id" | "status" | "result" | "partial_result" | "error_code" | "error_message" | "error_details" | "attempt"
>;

/** What is known of a requester, for all of their requests. */
export type Profile = Omit<DraftProfile, "requester_id">;

/** What became of a draft. */
export type Feedback = Omit<NewDraftFeedback, "request_id">;

export interface WaitOptions {
  /** How long to wait at most; then a `DOMException` with the name `TimeoutError` is thrown. */
  timeoutMs?: number;
  signal?: AbortSignal;
}

export interface Drafts {
  create(request: NewDraftRequest): Promise<CreatedDraftRequest>;
  refine(parentId: string, request?: Omit<NewDraftRequest, "image_urls" | "parent_id">): Promise<CreatedDraftRequest>;
  get(id: string): Promise<Reply>;
  wait(id: string, options?: WaitOptions): Promise<Reply>;
  stream(id: string, options?: WaitOptions): AsyncGenerator<Option, void, void>;
  follow(id: string, options?: WaitOptions): AsyncGenerator<Reply, void, void>;
  cancel(id: string): Promise<boolean>;
  feedback(id: string, feedback: Feedback): Promise<void>;
  profile(requesterId: string, changes?: Partial<Profile>): Promise<Profile | null>;
}

/** The request failed or was cancelled. */
export class DraftFailed extends Error {
  readonly reply: Reply;
}
/** There is no such request, or it belongs to somebody else. */
export class NotFound extends Error {}
/** The requester has as many waiting requests as its limit allows. */
export class TooManyPending extends Error {}

/** A client over node-postgres: a `Pool`, or a connected `Client`. Over what has no `on`, such as PGlite, it polls. */
export function fromPostgres(pg: { query: (text: string, values?: any[]) => Promise<{ rows: any[] }> }): Drafts;

/** A client over supabase-js; `topic` is the private topic of the user's broadcasts. */
export function fromSupabase(
  supabase: { rpc: (...args: any[]) => any; from: (table: string) => any },
  options?: { topic?: string },
): Drafts;
