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

/** A request as its client may read it: a row of `draft_replies`. */
export interface DraftReply {
  /** the request; chosen by the database unless a trusted client sets it */
  id: string;
  /** the user or tenant whose request it is, 256 characters; default: the JWT's subject, or ''. All requests with '' count as one requester's */
  requester_id: string;
  /** which prompt answers it, 256 characters */
  agent: string;
  /** pending, processing, completed, failed or cancelled; a client may set cancelled */
  status: DraftStatus;
  /** what the requester wants to say, 8,000 characters */
  context: string | null;
  /** how the drafts should be: a JSON object, see schema/draftd.ts, 256 KiB */
  options: DraftRequestOptions;
  /** the earlier request of the same requester that this one refines */
  parent_id: string | null;
  /** unique per requester, 256 characters */
  idempotency_key: string | null;
  /** not drafted after; null becomes available_at plus draft_settings.default_expiry_s */
  expires_at: string | null;
  /** the client's own JSON, never read by draftd, 256 KiB */
  metadata: Record<string, unknown>;
  /** the client's trace, as a W3C traceparent */
  traceparent: string | null;
  /** the options that are ready so far, in the shape of result; kept when the request fails */
  partial_result: PartialDraftResult | null;
  /** the drafts, see schema/result.json; set exactly when status is completed */
  result: DraftResult | null;
  /** why the request failed, or why it waits for another attempt; null when completed */
  error_code: ErrorCode | null;
  /** the error in a sentence for the app's user */
  error_message: string | null;
  /** what is known of {action, picture, host, status, found, limit}; action is resend, open_message, try_later, shorten or none */
  error_details: ErrorDetails | null;
  /** attempts spent */
  attempt: number;
  /** when the request was inserted */
  created_at: string;
  /** when the last attempt began */
  claimed_at: string | null;
  /** when the request became completed, failed or cancelled */
  finished_at: string | null;
  /** when the request last changed; a renewal does not count */
  updated_at: string;
}

/** A row of `draft_requests`, which a server reads. */
export interface DraftRequest extends DraftReply {
  /** 1 to 8 screenshots in reading order, as https:, http: or data:image/…;base64,… URLs, 24 MiB in all; none with parent_id. Each data: URL becomes sha256:… when the request is final */
  image_urls: string[];
  /** -100 to 100; higher runs first */
  priority: number;
  /** not drafted before */
  available_at: string;
  /** 1 to 10 */
  max_attempts: number;
  /** grows with each claim; a write with an older one is refused */
  lease_token: number;
  /** when the claim ends unless it is renewed */
  lease_until: string | null;
  /** when the attempt ends whatever happens */
  deadline_at: string | null;
  /** the process that holds the request, or held it last */
  worker_id: string | null;
  /** place in the fair order; lower runs first */
  turn: number;
  /** the messages that mattered, verbatim, for a refinement */
  reading: unknown;
  /** for operators: the last 20 errors as [{attempt, at, code, message, model}] */
  errors: DraftError[];
  /** each picture as read, as [{host, sha256, width, height, parts}]; sizes in pixels */
  images: unknown;
  /** the model that wrote the result */
  model: string | null;
  /** the prompt that the model was given */
  prompt_version: string | null;
  /** sum over all model calls */
  input_tokens: number | null;
  /** sum over all model calls */
  output_tokens: number | null;
  /** US dollars, sum over all model calls; null if a price is not known */
  cost_usd: number | null;
  /** the trace in Langfuse */
  trace_id: string | null;
  /** how often a hold gave the attempt back */
  given_back: number;
  /** true while a pending request waits for its requester's limits */
  limited: boolean;
  /** when the first option was published; null if none was before the end */
  first_option_at: string | null;
}

/** A row of `draft_feedback`. */
export interface DraftFeedback {
  /** in the order of insertion */
  id: number;
  /** the request; null once it is deleted */
  request_id: string | null;
  /** short, medium or detailed; null: no draft in particular */
  option: Length | null;
  /** what was sent, 8,000 characters */
  sent_text: string | null;
  /** -1 or 1 */
  rating: -1 | 1 | null;
  /** when the feedback was inserted */
  created_at: string;
  /** the request's */
  requester_id: string;
  /** sent, edited or rejected; null is filled in by comparing sent_text with the draft */
  outcome: Open<"sent" | "edited" | "rejected"> | null;
  /** the result's platform */
  platform: string | null;
  /** whom the draft answered */
  author: string | null;
  /** the option's text */
  drafted_text: string | null;
  /** of drafted_text and sent_text, 0 to 1; 1: equal but for space around them */
  similarity: number | null;
  /** the option's angle */
  angle: string | null;
  /** the option's stance */
  stance: Stance | null;
  /** the request's */
  agent: string | null;
  /** the request's */
  prompt_version: string | null;
  /** the request's */
  trace_id: string | null;
  /** when its scores are due at Langfuse; null: nothing is left to send */
  score_at: string | null;
}

/** What a client may set of it; a null means the default. */
export interface NewDraftFeedback {
  /** the request; null once it is deleted */
  request_id: string;
  /** short, medium or detailed; null: no draft in particular */
  option?: Length | null;
  /** what was sent, 8,000 characters */
  sent_text?: string | null;
  /** sent, edited or rejected; null is filled in by comparing sent_text with the draft */
  outcome?: Open<"sent" | "edited" | "rejected"> | null;
  /** -1 or 1 */
  rating?: -1 | 1 | null;
}

/** A row of `draft_profiles`. */
export interface DraftProfile {
  /** whose profile it is, 1 to 256 characters; default: the JWT's subject */
  requester_id: string;
  /** who the requester is in screenshots, 200 characters: a name, or 'right-hand bubbles' */
  me: string | null;
  /** who the requester is, in a few sentences, 2,000 characters */
  about: string | null;
  /** up to 200 true statements that drafts may use, 500 characters each */
  facts: string[];
  /** what closes the requester's mails, 500 characters */
  signature: string | null;
  /** up to 10 texts by the requester, 2,000 characters each */
  voice_samples: string[];
  /** the language for summaries and explanations, as a BCP 47 tag such as en or pt-BR */
  reader_language: string | null;
}

/** What a client may set of it; a null means the default. */
export interface NewDraftProfile {
  /** whose profile it is, 1 to 256 characters; default: the JWT's subject */
  requester_id?: string | null;
  /** who the requester is in screenshots, 200 characters: a name, or 'right-hand bubbles' */
  me?: string | null;
  /** who the requester is, in a few sentences, 2,000 characters */
  about?: string | null;
  /** up to 200 true statements that drafts may use, 500 characters each */
  facts?: string[] | null;
  /** what closes the requester's mails, 500 characters */
  signature?: string | null;
  /** up to 10 texts by the requester, 2,000 characters each */
  voice_samples?: string[] | null;
  /** the language for summaries and explanations, as a BCP 47 tag such as en or pt-BR */
  reader_language?: string | null;
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

/** One of `draft_requests.errors`. */
export interface DraftError {
  attempt: number;
  at: string;
  code: ErrorCode;
  message: string;
  model?: string | null;
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

/** What `draft_request_wait` returns: why a request is not being drafted. */
export interface DraftRequestWait {
  /** Null: the request is not pending. */
  reason: Open<"turn" | "later" | "model" | "paused" | "budget" | "limit" | "no_worker"> | null;
  /** How many pending requests come first, at most 1,000. */
  ahead: number;
  until: string | null;
}

type Plain<T> = { [Key in keyof T]: T[Key] };
type Table<Row, Insert, Update> = {
  Row: Plain<Row>;
  Insert: Plain<Insert>;
  Update: Plain<Update>;
  Relationships: [];
};

/**
 * What a client uses of the database, for supabase-js: `createClient<Database>(url, key)`. `Schema` is where the tables are.
 * With types of your own: `type All = { public: Mine["public"] & Database["public"] }`.
 */
export type Database<Schema extends string = "public"> = {
  [Name in Schema]: {
    Tables: {
      draft_requests: Table<DraftRequest, NewDraftRequest, { status: "cancelled" }>;
      draft_feedback: Table<DraftFeedback, NewDraftFeedback, Record<never, never>>;
      draft_profiles: Table<DraftProfile, NewDraftProfile, NewDraftProfile>;
    };
    Views: { draft_replies: { Row: Plain<DraftReply>; Relationships: [] } };
    Functions: {
      create_draft_request: { Args: { request: NewDraftRequest }; Returns: CreatedDraftRequest };
      cancel_draft_request: { Args: { id: string }; Returns: boolean };
      draft_request_wait: { Args: { id: string }; Returns: DraftRequestWait | null };
      forget_draft_requester: {
        Args: { requester_id: string };
        Returns: { requests: number; feedback: number; profiles: number; usage: number };
      };
    };
    Enums: Record<never, never>;
    CompositeTypes: Record<never, never>;
  };
};
