// The page: who is signed in, the form for a screenshot, and the conversations, newest first.
import { SignedOut, create, list, read, sent, signIn, signInWith, signOut, user } from "./api.js";
import config from "./config.js";
import { Conversation, thumbnail } from "./conversation.js";
import { byId, make } from "./dom.js";

const POLL_MS = 600;
const HIDDEN_POLL_MS = 5000;
const LISTED = 30;
const MAX_PICTURES = 8;
const MAX_BYTES = 17 * 1024 * 1024; // as base64, what a row may hold

// A second policy, which can only forbid more than the first: this page talks to the project's addresses and no others.
const addresses = [config.rest, config.auth].filter(Boolean).map((one) => new URL(one, location.href).origin);
document.head.append(make("meta", { httpEquiv: "Content-Security-Policy", content: `connect-src ${addresses.join(" ")}` }));

// Signing in

let shownUser = null;

function showSession(message = "") {
  const who = user();
  byId("sign-in").hidden = who !== null;
  byId("app").hidden = who === null;
  byId("account").hidden = who === null;
  say("sign-in-problem", "");
  say("sign-in-notice", message);
  if (!who) return byId(config.auth ? "email" : "token").focus();
  byId("who").textContent = who.name;
  if (shownUser === who.id) return wake();
  if (shownUser !== null) return location.reload(); // somebody else: nothing of the user before may stay
  shownUser = who.id;
  load();
}

byId("with-password").hidden = !config.auth;
byId("with-token").hidden = Boolean(config.auth);
byId("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  const submit = event.target.querySelector("button");
  submit.disabled = true;
  try {
    if (config.auth) await signIn(byId("email").value, byId("password").value);
    else signInWith(byId("token").value);
    event.target.reset();
    showSession();
  } catch (error) {
    say("sign-in-problem", error.message);
  }
  submit.disabled = false;
});
byId("sign-out").addEventListener("click", () => {
  signOut();
  location.reload();
});
window.addEventListener("signedout", ({ detail }) => showSession(detail));

function say(id, text) {
  byId(id).textContent = text;
  byId(id).hidden = text === "";
}

// The form

let pictures = [];

function showPictures() {
  byId("pictures").replaceChildren(...pictures.map((picture) => {
    const remove = make("button", { type: "button", title: "Remove" }, "×");
    remove.setAttribute("aria-label", `Remove ${picture.name}`);
    remove.addEventListener("click", () => {
      pictures = pictures.filter((one) => one !== picture);
      showPictures();
    });
    return make("div", { className: "picture" }, thumbnail(picture), remove);
  }));
  byId("pictures").hidden = pictures.length === 0;
  byId("send").disabled = pictures.length === 0;
}

const readAsUrl = (file) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(new Error(`${file.name} cannot be read.`));
  reader.readAsDataURL(file);
});

async function addFiles(files) {
  say("problem", "");
  try {
    for (const file of files) {
      if (!file.type.startsWith("image/")) throw new Error(`${file.name} is not a picture.`);
      if (pictures.length === MAX_PICTURES) throw new Error(`At most ${MAX_PICTURES} pictures fit into one request.`);
      if (pictures.reduce((sum, one) => sum + one.size, file.size) > MAX_BYTES) {
        throw new Error("The pictures are too large together. Send fewer, or smaller ones.");
      }
      pictures.push({ name: file.name || "screenshot", size: file.size, url: await readAsUrl(file) });
    }
  } catch (error) {
    say("problem", error.message);
  }
  showPictures();
}

byId("files").addEventListener("change", (event) => {
  addFiles([...event.target.files]);
  event.target.value = "";
});
document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  if (files.length === 0 || byId("app").hidden) return;
  event.preventDefault();
  addFiles(files);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("dragging");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  if (!byId("app").hidden) addFiles([...event.dataTransfer.files]);
});
byId("composer").addEventListener("submit", async (event) => {
  event.preventDefault();
  byId("send").disabled = true;
  say("problem", "");
  const context = byId("note").value.trim();
  try {
    await page.begin({ ...(context && { context }) }, pictures);
    pictures = [];
    byId("note").value = "";
  } catch (error) {
    if (!(error instanceof SignedOut)) say("problem", error.message);
  }
  showPictures();
});

// Conversations

const conversations = new Set();
let earliest = null;

const turns = () => [...conversations].flatMap((one) => [...one.turns.values()]);
const conversationOf = (id) => [...conversations].find((one) => one.turns.has(id));

const page = {
  /** Insert a request; a refinement joins its parent's conversation. */
  async begin(request, itsPictures) {
    // A repeated call with the same key returns the same request.
    const keyed = { ...request, idempotency_key: crypto.randomUUID() };
    if (!request.parent_id) keyed.image_urls = itsPictures.map((picture) => picture.url);
    const made = await create(keyed).catch((error) => {
      if (!error.isPassing) throw error;
      return create(keyed);
    });
    const row = { context: null, options: {}, ...request, ...made, created_at: new Date().toISOString() };
    const { element } = join(row, itsPictures).conversation;
    byId("conversations").prepend(element);
    showEmptiness();
    element.scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    wake();
  },
  /** Fill the form, for another try. */
  compose(context, itsPictures) {
    byId("note").value = context;
    pictures = [...itsPictures];
    showPictures();
    byId("composer").scrollIntoView({ block: "start" });
    if (pictures.length > 0) byId("note").focus();
    else byId("files").click();
  },
  look: () => wake(),
  drop(conversation) {
    conversations.delete(conversation);
    conversation.element.remove();
    showEmptiness();
  },
};

/** Show a request in the conversation of its parent, or in a new one. */
function join(row, itsPictures) {
  const conversation = conversationOf(row.parent_id);
  if (conversation) return conversation.add(row);
  const begun = new Conversation(row, page, itsPictures);
  conversations.add(begun);
  return begun.turns.get(row.id);
}

/** Show requests that were made before, newest first; only the newest conversation is open. */
async function load() {
  byId("loading").hidden = false;
  byId("more").hidden = true;
  say("list-problem", "");
  try {
    const rows = await list(LISTED, earliest);
    await showEarlier(rows);
    byId("more").hidden = rows.length < LISTED;
    byId("more").textContent = "Show earlier";
  } catch (error) {
    if (!(error instanceof SignedOut)) say("list-problem", error.message);
    byId("more").hidden = error instanceof SignedOut;
    byId("more").textContent = "Try again";
  }
  byId("loading").hidden = true;
  showEmptiness();
  wake();
}

async function showEarlier(rows) {
  if (rows.length === 0) return;
  const rated = await sent(rows.map((row) => row.id));
  const parents = new Map(rows.map((row) => [row.id, row.parent_id]));
  const known = new Map();
  for (const row of rows) {
    let root = row.id;
    while (parents.has(parents.get(root))) root = parents.get(root);
    const conversation = known.get(root) ?? conversationAfter(root);
    if (conversation) {
      conversation.add(row, { isOlder: true });
      known.set(root, conversation);
      continue;
    }
    const begun = new Conversation(row, page, []);
    begun.element.open = conversations.size === 0;
    known.set(root, begun);
    conversations.add(begun);
    byId("conversations").append(begun.element);
  }
  for (const one of rated) turnOf(one.request_id)?.cards.get(one.option)?.rated(one.outcome);
  earliest = rows.at(-1).created_at;
}

const conversationAfter = (id) => turns().find((turn) => turn.row.parent_id === id)?.conversation;
const turnOf = (id) => conversationOf(id)?.turns.get(id);

function showEmptiness() {
  byId("empty").hidden = conversations.size > 0 || !byId("loading").hidden || !byId("list-problem").hidden;
}

byId("more").addEventListener("click", load);

// Following what is not finished

let wake = () => {};

async function follow() {
  for (;;) {
    const unfinished = user() ? turns().filter((turn) => !turn.isFinal) : [];
    let pause = document.hidden ? HIDDEN_POLL_MS : POLL_MS;
    if (unfinished.length === 0) pause = Infinity;
    else pause = await look(unfinished, pause);
    await new Promise((resume) => {
      wake = resume;
      if (pause < Infinity) setTimeout(resume, pause);
    });
  }
}

/** Read unfinished requests once; return how long to wait. */
async function look(unfinished, pause) {
  try {
    const rows = await read(unfinished.map((turn) => turn.row.id));
    for (const turn of unfinished) {
      const row = rows.find((one) => one.id === turn.row.id);
      if (row) turn.show(row);
      else page.drop(turn.conversation); // deleted elsewhere
    }
    await Promise.all(unfinished.map((turn) => turn.explain()));
    say("offline", "");
    return pause;
  } catch (error) {
    if (!(error instanceof SignedOut)) say("offline", `${error.message} Trying again …`);
    return error instanceof SignedOut ? Infinity : HIDDEN_POLL_MS;
  }
}

document.addEventListener("visibilitychange", () => document.hidden || wake());
window.addEventListener("online", () => wake());

showSession();
follow();
