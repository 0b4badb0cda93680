// A conversation: the drafts for one screenshot, and below them the earlier ones that they change.
import { cancel, create, remove, waitsFor } from "./api.js";
import { Card, ghost } from "./card.js";
import { button, make, problem } from "./dom.js";

const LENGTHS = ["short", "medium", "detailed"];
const FINAL = ["completed", "failed", "cancelled"];
const SHORTER = "Make all of them shorter: about half as long, with the same message.";
const DECISIONS = { accept: "Accept", decline: "Decline", open: "Leave it open" };
const WAIT_MS = 3000;
const WARNINGS = {
  __proto__: null,
  possible_prompt_injection: "The screenshot contains instructions to the model. Read the replies with care.",
  partially_illegible: "Parts of the screenshot are illegible.",
  image_truncated: "Not all of the picture was read.",
  no_reply_expected: "No reply is expected; these lines could still be sent.",
  ambiguous_target: "It is not clear which message to answer.",
  unseen_link_removed: "A link that was not in the screenshot was removed.",
  unsupported_fact: "The marked facts are neither in the screenshot nor in your words. Check them before you send.",
  early_option_doubtful: "A reply that was shown early fails a later check.",
};
const WAITS = {
  __proto__: null,
  turn: ({ ahead }) => (ahead ? `Waiting for its turn: ${ahead} before it` : "Waiting for its turn"),
  later: ({ until }) => `Trying again ${at(until)}`,
  model: ({ until }) => `The model is not available. Trying again ${at(until)}`,
  paused: () => "Paused by the operator",
  budget: ({ until }) => `Today's budget is used up. It goes on ${at(until)}`,
  limit: () => "Waiting for your other requests",
  no_worker: () => "Nothing is drafting right now. It will start by itself",
};
// What the user can do about a failure: error_details.action.
const REMEDIES = {
  __proto__: null,
  resend: { name: "Choose the screenshot again" },
  open_message: { hint: "Open the conversation first, then take the screenshot.", name: "Choose another screenshot" },
  shorten: { hint: "Use a smaller picture, fewer screenshots or fewer words.", name: "Change and send again", keepsPictures: true },
};

function at(until) {
  const left = new Date(until) - Date.now();
  if (!until || left < 90_000) return "soon";
  return left < 82_800_000 ? `at ${clock(until)}` : `on ${day(until)}`;
}

const clock = (time) => new Intl.DateTimeFormat(undefined, { timeStyle: "short" }).format(new Date(time));
const day = (time) => new Intl.DateTimeFormat(undefined, { dateStyle: "medium" }).format(new Date(time));
const when = (time) => (new Date(time).toDateString() === new Date().toDateString() ? clock(time) : day(time));

/** The drafts of one request. */
class Turn {
  constructor(row, conversation) {
    this.conversation = conversation;
    this.cards = new Map();
    this.said = new Map();
    this.isFinal = false;
    this.askedAt = Date.now();
    this.state = make("p", { className: "state", role: "status" });
    this.progress = make("div", { className: "progress" }, this.state, button("Cancel", () => this.cancel(), "plain"));
    this.list = make("div", { className: "cards" });
    this.remarks = make("ul", { className: "remarks" });
    this.actions = make("div", { className: "actions" });
    this.element = make("details", { className: "turn", open: true },
      make("summary", {}, make("span", { dir: "auto" }, label(row)), make("time", {}, when(row.created_at))),
      this.progress, this.list, this.remarks, this.actions);
    this.show(row);
  }

  show(row) {
    this.row = row;
    const result = row.result ?? row.partial_result ?? {};
    this.conversation.title(result);
    for (const option of result.options ?? []) this.fill(option);
    this.fillUp((row.options.lengths ?? LENGTHS).filter((length) => !this.cards.has(length)));
    if (!FINAL.includes(row.status)) return this.proceed();
    if (this.isFinal) return;
    this.isFinal = true;
    this.progress.remove();
    this.list.querySelectorAll(".ghost").forEach((one) => one.remove());
    this.list.hidden = this.cards.size === 0;
    if (row.status === "completed") this.complete(result);
    else this.fail();
  }

  proceed() {
    const { status } = this.row;
    if (status === "processing") this.say(this.cards.size ? `Writing … ${this.cards.size} of ${this.list.childElementCount}` : "Reading …");
    else if (!this.isExplained) this.say("Waiting …");
  }

  async cancel() {
    await cancel(this.row.id);
    this.conversation.page.look();
  }

  /** Say why nothing happens, once it has taken a while. */
  async explain() {
    if (this.row.status !== "pending" || Date.now() - this.askedAt < WAIT_MS) return;
    this.askedAt = Date.now();
    const wait = await waitsFor(this.row.id);
    if (!wait?.reason || this.isFinal) return;
    this.isExplained = true;
    this.say(`${(WAITS[wait.reason] ?? WAITS.turn)(wait)} …`);
  }

  say(text) {
    if (this.state.textContent !== text) this.state.textContent = text;
  }

  fill(option) {
    const said = JSON.stringify(option);
    if (this.said.get(option.length) === said) return;
    this.said.set(option.length, said);
    const card = new Card(this.row.id, option);
    const before = this.cards.get(option.length)?.element ?? this.list.querySelector(".ghost");
    if (before) before.replaceWith(card.element);
    else this.list.append(card.element);
    this.cards.set(option.length, card);
  }

  fillUp(missing) {
    const ghosts = this.list.querySelectorAll(".ghost").length;
    for (let count = ghosts; count < missing.length && !this.isFinal; count += 1) this.list.append(ghost());
  }

  complete(result) {
    const warnings = (result.warnings ?? []).filter((name) => name in WARNINGS);
    const lines = warnings.map((name) => make("li", { className: "warning" }, WARNINGS[name]));
    if (result.unsent_text) lines.push(make("li", { dir: "auto" }, `Continues what you had begun: ${result.unsent_text}`));
    if (result.missing?.length) lines.push(make("li", { dir: "auto" }, `A better reply needs: ${result.missing.join("; ")}`));
    this.remarks.replaceChildren(...lines);
    this.offer(result);
  }

  offer(result) {
    const refine = (name, change) => button(name, () => this.refine(change));
    const decides = (result.options ?? []).some((option) => (option.stance ?? "none") !== "none");
    const decisions = Object.entries(DECISIONS).map(([stance, name]) => refine(name, { options: { stance } }));
    const targets = (result.other_targets ?? []).map(
      (one) => refine(shortened([one.author, one.gist].filter(Boolean).join(": ")), { options: { answer_to: one.key } }));
    this.actions.replaceChildren(
      this.wish(),
      group("Or try", [refine("Shorter", { context: SHORTER }), refine("Others", {})]),
      ...(decides ? [group("Or decide", decisions)] : []),
      ...(targets.length ? [group("Or answer", targets)] : []));
  }

  /** A line for what should change, in words. */
  wish() {
    const words = make("input", { type: "text", maxLength: 8000, placeholder: "What should change?", dir: "auto", enterKeyHint: "send" });
    words.setAttribute("aria-label", "What should change?");
    const send = button("Change", () => {
      if (words.value.trim()) return this.refine({ context: words.value.trim() });
      words.focus();
    });
    words.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.isComposing) send.click();
    });
    return make("div", { className: "wish" }, words, send);
  }

  refine(change) {
    return this.conversation.page.begin({ ...change, parent_id: this.row.id }, this.conversation.pictures);
  }

  fail() {
    const { row } = this;
    this.actions.replaceChildren();
    this.conversation.ended(row.status === "cancelled" ? "Cancelled" : this.cards.size ? "Not all replies were written" : "No replies were written");
    if (row.status === "cancelled") {
      this.list.before(make("p", { className: "quiet" }, "This was cancelled."));
    } else {
      this.list.before(problem(row.error_message ?? "Something went wrong. Please try again later."));
    }
    const action = row.status === "cancelled" ? "try_later" : row.error_details?.action ?? "none";
    const remedy = REMEDIES[action];
    if (remedy?.hint) this.actions.append(make("span", { className: "hint" }, remedy.hint));
    if (action === "try_later") this.actions.append(this.again());
    else if (remedy) this.actions.append(button(remedy.name, () => this.edit(remedy.keepsPictures)));
    else this.actions.append(make("span", { className: "hint" }, `If it happens again, tell support the number ${row.id}.`));
  }

  /** The row of a failed request has no pictures any more: those of this tab are sent again, or chosen again. */
  again() {
    const { parent_id, context, options } = this.row;
    if (parent_id) return button("Try again", () => this.conversation.page.begin({ parent_id, context, options }, this.conversation.pictures));
    const { pictures } = this.conversation;
    if (pictures.length === 0) return button(REMEDIES.resend.name, () => this.edit());
    return button("Try again", () => this.conversation.page.begin({ context, options }, pictures));
  }

  /** A picture that the error is about would fail again. */
  edit(keepsPictures = false) {
    const refused = (this.row.error_details?.picture ?? 0) - 1;
    const kept = keepsPictures ? this.conversation.pictures.filter((_, index) => index !== refused) : [];
    this.conversation.page.compose(this.row.context ?? "", kept);
  }
}

const group = (name, buttons) =>
  make("div", { className: "group" }, make("span", { className: "hint" }, name), make("div", { className: "buttons" }, ...buttons));
const shortened = (text) => (text.length > 80 ? `${text.slice(0, 79)}…` : text);

/** What a request asked for, in a few words. */
function label({ parent_id, context, options }) {
  if (!parent_id) return "First drafts";
  if (options.stance) return DECISIONS[options.stance] ?? "Another decision";
  if (options.answer_to) return "Another message";
  if (context === SHORTER) return "Shorter";
  return context ? `“${context}”` : "Others";
}

export class Conversation {
  /** `page` begins requests (`begin`), fills the form (`compose`), reads rows soon (`look`) and lets go of a conversation (`drop`). */
  constructor(row, page, pictures) {
    this.page = page;
    this.pictures = pictures;
    this.turns = new Map();
    this.heading = make("h2", { dir: "auto" }, "Your screenshot");
    this.gist = make("p", { className: "gist", dir: "auto" });
    this.body = make("div", { className: "turns" });
    this.end = make("footer", { className: "end" });
    this.element = make("details", { className: "conversation", open: true },
      make("summary", {},
        make("div", { className: "sources" }, ...pictures.slice(0, 2).map(thumbnail)),
        make("div", { className: "about" }, this.heading, this.gist),
        make("time", {}, when(row.created_at))),
      this.body, this.end);
    this.offerEnd();
    this.add(row);
  }

  /** Show a request; the newest is above the others, and open. */
  add(row, { isOlder = false } = {}) {
    const turn = new Turn(row, this);
    this.turns.set(row.id, turn);
    if (isOlder) {
      turn.element.open = false;
      this.body.append(turn.element);
    } else {
      for (const one of this.turns.values()) one.element.open = one === turn;
      this.body.prepend(turn.element);
    }
    this.element.classList.toggle("single", this.turns.size === 1);
    return turn;
  }

  title(result) {
    if (!result.replying_to || this.isTitled) return;
    this.isTitled = true;
    const { author, gist } = result.replying_to;
    this.heading.textContent = author ? `To ${author}` : "Replies";
    this.gist.textContent = gist;
  }

  ended(how) {
    if (!this.isTitled) this.gist.textContent = how;
  }

  offerEnd() {
    this.end.replaceChildren(button("Delete conversation", () => this.confirm(), "plain quiet"));
  }

  confirm() {
    const yes = button("Delete", () => this.remove(), "action danger");
    const no = button("Keep", () => this.offerEnd());
    const question = "Delete this conversation and its drafts? This cannot be undone.";
    this.end.replaceChildren(make("p", {}, question), make("div", { className: "buttons" }, yes, no));
    no.focus();
  }

  async remove() {
    for (const turn of this.turns.values()) if (!turn.isFinal) await cancel(turn.row.id);
    if (!(await remove([...this.turns.keys()][0]))) throw new Error("It is still being written. Try again in a moment.");
    this.page.drop(this);
  }
}

// Not every browser shows every format that draftd reads, such as HEIC.
export function thumbnail(picture) {
  const image = make("img", { src: picture.url, alt: picture.name });
  image.addEventListener("error", () => image.replaceWith(make("span", {}, picture.name)));
  return image;
}
