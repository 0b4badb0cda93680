// Written by scripts/generate_docs.py; `make docs` writes it again.
// What an app inserts into draftd's tables and reads from them. Times are ISO 8601, as PostgREST and JSON have them.

/** A known value, or one that a later version added. */
export type Open<Known extends string> = Known | (string & {});

export type DraftStatus = Open<"pending" | "processing" | "completed" | "failed" | "cancelled">;

export type ErrorCode = Open<"invalid_request" | "expired" | "image_blocked" | "image_fetch_failed" | "image_too_large" | "image_invalid" | "image_unsupported" | "image_gone" | "model_rate_limited" | "model_unavailable" | "model_misconfigured" | "model_timeout" | "model_refused" | "output_invalid" | "context_too_long" | "nothing_to_reply_to" | "nothing_open" | "budget_exceeded" | "worker_lost" | "internal_error">;

export type UserAction = Open<"resend" | "open_message" | "try_later" | "shorten" | "none">;

/** How sure the model is of its reading; the prompt defines the levels. */
export type Confidence = Open<"low" | "medium" | "high">;

/** The kind of conversation. */
export type ContentType = Open<"post" | "comment" | "thread" | "direct_message" | "group_chat" | "email" | "review" | "article" | "other">;

/** What the message wants first. */
export type Expects = Open<"decision" | "question" | "recommendation" | "help" | "social" | "statement">;

/** What kind of fact a quote states (section 2 of the contract). */
export type FactKind = Open<"number" | "amount" | "date" | "time" | "phone" | "email" | "handle" | "link">;

/** The three replies, in their order. */
export type Length = Open<"short" | "medium" | "detailed">;

/** One reply that could be sent as it is. */
export interface Option {
  length: Length;
  /** What this reply does, in at most five words. */
  angle: string;
  /** What the reply commits the requester to. */
  stance: Stance;
  /** What is pasted into the reply box: plain text, line breaks as `\n`. */
  text: string;
  unsupported: Unsupported[];
  /** The text in `reader_language`; absent if the reader needs none. */
  translation?: string;
}

/** Another message that could have been meant. */
export interface OtherTarget {
  /** What a refinement names in `options.answer_to`. */
  key: string;
  author: string;
  gist: string;
}

/** The platform of a conversation. */
export type Platform = Open<"linkedin" | "email" | "x" | "slack" | "facebook" | "instagram" | "whatsapp" | "telegram" | "discord" | "teams" | "reddit" | "sms" | "github" | "youtube" | "other">;

/** Whether the other side expects a reply. */
export type ReplyNeeded = Open<"yes" | "no" | "unclear">;

/** The person that the drafts answer, and the gist of the message. */
export interface ReplyingTo {
  /** The name as shown. */
  author: string;
  gist: string;
  expects: Expects;
}

/** What the requester should know before sending a draft. */
export type ResultWarning = Open<"possible_prompt_injection" | "partially_illegible" | "image_truncated" | "no_reply_expected" | "ambiguous_target" | "unseen_link_removed" | "unsupported_fact" | "early_option_doubtful">;

/** What an option commits the requester to. */
export type Stance = Open<"accept" | "decline" | "choice" | "open" | "none">;

/** A fact in an option that stands in no source. */
export interface Unsupported {
  /** A verbatim part of the text. */
  quote: string;
  kind: FactKind;
}

/** A finished draft, as stored in `draft_requests.result`. */
export interface DraftResult {
  schema_version: 1;
  platform: Platform;
  /** The name as shown, such as "Mastodon". */
  platform_name: string;
  content_type: ContentType;
  /** The conversation's language, as a BCP 47 tag. */
  language: string;
  /** One sentence: what the screenshot shows. */
  summary: string;
  /** Who the requester is in the screenshot. */
  me: string;
  replying_to: ReplyingTo;
  reply_needed: ReplyNeeded;
  /** The replies that were wanted, in the order of `Length`. */
  options: Option[];
  /** Up to five. */
  other_targets: OtherTarget[];
  /** The requester's own beginning in the reply box, which the options continue. */
  unsent_text: string | null;
  /** Facts that would improve the replies. */
  missing: string[];
  confidence: Confidence;
  warnings: ResultWarning[];
}

/** What is ready of a result while its request is processed, and what stays when it fails. */
export type PartialDraftResult = Partial<Omit<DraftResult, "options">> & { options: Option[] };

/** `draft_requests.options`: how the requester wants the drafts. Unknown keys are refused. */
export interface DraftRequestOptions {
  /** a few words: `"warm"`, `"brief, formal"`; 200 characters */
  tone?: string | null;
  /** language of the replies, as a tag such as `en` or `pt-BR`; default: the conversation's */
  language?: string | null;
  /** the requester's language, for summary, gist, angles and `missing`; each option gets a `translation` */
  reader_language?: string | null;
  /** who the requester is in the screenshot: a name, or `"right-hand bubbles"`; 200 characters */
  me?: string | null;
  /** up to 10 texts by the requester, of up to 4,000 characters each */
  voice_samples?: string[];
  /** maximum length of a reply, 1 to 20,000; the platform's own limit applies too */
  max_chars?: number | null;
  /** up to 20 statements that are true and may be used: `"my course was CS, 2019 to 2023"`; 500 characters each */
  facts?: string[];
  /** `accept`, `decline` or `open`: the decision that all drafts take */
  stance?: "accept" | "decline" | "open" | null;
  /** which message to answer when several could be meant: a `key` of the parent's `other_targets`, or words: `"Ana's comment about prices"`; 200 characters */
  answer_to?: string | null;
  /** which of `short`, `medium`, `detailed` are wanted; default: all three */
  lengths?: ("short" | "medium" | "detailed")[];
}

/** What a client may set of a request; a null means the default. */
export interface NewDraftRequest {
  /** 1 to 8 screenshots in reading order: `https:` or `http:` URLs of at most 8,192 characters, or `data:image/…;base64,…`. 24 MiB in a row. None with `parent_id` */
  image_urls?: string[] | null;
  /** the user or tenant the request belongs to. Requesters take turns, however many requests each has; those without a name share one turn. For an end user, its own id, which is also the default. 256 characters, like `agent` and `idempotency_key` */
  requester_id?: string | null;
  /** what the requester wants to say; 8,000 characters */
  context?: string | null;
  /** how the drafts should be, see below; 256 KiB */
  options?: DraftRequestOptions | null;
  /** the agent that writes the drafts ([prompts.md](prompts.md)). Refused if daemons ran in the last day and none has it */
  agent?: string | null;
  /** refine the drafts of this completed request of the same requester: `context`, `stance` or `answer_to` say how; without any of them, you get other drafts ([refining](#refining)) */
  parent_id?: string | null;
  /** -100 to 100; higher runs first; for trusted clients */
  priority?: number | null;
  /** not before */
  available_at?: string | null;
  /** a request not drafted by then fails as `expired` without a model call. Null becomes `available_at` plus six hours (`draftd settings set default_expiry_s=…`) */
  expires_at?: string | null;
  /** unique per requester */
  idempotency_key?: string | null;
  /** 1 to 10 */
  max_attempts?: number | null;
  /** your trace, as a W3C `traceparent`: the request's trace continues it, and the model's server receives it */
  traceparent?: string | null;
  /** your own data, which draftd never reads; 256 KiB */
  metadata?: Record<string, unknown> | null;
  /** can be set by trusted clients */
  id?: string | null;
}

/** A request as its client reads it. */
export interface DraftReply {
  id: string;
  requester_id: string;
  agent: string;
  status: DraftStatus;
  /** The options that are ready so far; it stays on a failed request. */
  partial_result: PartialDraftResult | null;
  /** Set exactly when `status` is `completed`. */
  result: DraftResult | null;
  error_code: ErrorCode | null;
  /** For the app's user. */
  error_message: string | null;
  error_details: ErrorDetails | null;
  attempt: number;
  context: string | null;
  options: DraftRequestOptions;
  parent_id: string | null;
  idempotency_key: string | null;
  metadata: Record<string, unknown>;
  available_at: string;
  expires_at: string | null;
  created_at: string;
  claimed_at: string | null;
  finished_at: string | null;
  updated_at: string;
}

/** What is known of an error; `action` is what the app's user can do. */
export interface ErrorDetails {
  action: UserAction;
  picture?: number;
  host?: string;
  status?: number;
  found?: string | number;
  limit?: string | number;
}

/** What `create_draft_request` returns. */
export interface CreatedDraftRequest {
  id: string;
  status: DraftStatus;
  /** False: a request with this idempotency key existed. */
  created: boolean;
}

/** The payload of the channel `draft_results`. Anyone can forge one: read the row. */
export interface DraftNotification {
  id: string;
  status: DraftStatus;
  options_ready: number;
}
