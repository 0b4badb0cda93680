// One reply: what it commits to, its text with doubtful facts marked, and the buttons to copy it and to say that it was sent.
import { rate } from "./api.js";
import { button, make } from "./dom.js";

const STANCES = { __proto__: null, accept: "Accepts", decline: "Declines", choice: "Chooses", open: "Leaves it open" };
const OUTCOMES = { __proto__: null, sent: "Sent as it is", edited: "Sent with changes" };

export function ghost() {
  const element = make("article", { className: "ghost" }, make("i"), make("i"), make("i"));
  element.setAttribute("aria-hidden", "true");
  return element;
}

export class Card {
  constructor(requestId, option) {
    this.requestId = requestId;
    this.option = option;
    this.footer = make("footer");
    const stance = option.stance ?? "none";
    const known = stance in STANCES ? stance : "open";
    this.element = make("article", {},
      make("header", {},
        make("span", { className: "length" }, option.length),
        stance === "none" ? "" : make("span", { className: `stance ${known}` }, STANCES[known]),
        make("span", { className: "angle", dir: "auto" }, option.angle ?? "")),
      make("p", { className: "text", dir: "auto" }, ...marked(option.text, option.unsupported ?? [])),
      option.translation ? make("p", { className: "translation", dir: "auto" }, option.translation) : "",
      this.footer);
    this.offer();
  }

  offer() {
    const copy = copyButton(this.option);
    const sent = button("I sent this", () => this.ask(), "plain");
    this.footer.replaceChildren(copy, sent);
  }

  /** Ask for the words that were sent: the draft's, unless they were changed. */
  ask() {
    const words = make("textarea", { value: this.option.text, dir: "auto", maxLength: 8000 });
    words.setAttribute("aria-label", "What you sent");
    const save = button("Save", async () => this.rated((await rate(this.requestId, this.option.length, words.value)).outcome));
    const back = button("Back", () => this.offer(), "plain");
    this.footer.replaceChildren(make("div", { className: "sent" },
      make("p", { className: "hint" }, "If you changed something, change it here too."),
      words, make("div", { className: "buttons" }, save, back)));
    words.focus();
  }

  rated(outcome) {
    if (!(outcome in OUTCOMES)) return;
    this.footer.replaceChildren(copyButton(this.option), make("span", { className: "done", role: "status" }, OUTCOMES[outcome]));
  }
}

function copyButton(option) {
  const element = make("button", { type: "button", className: "copy" }, "Copy");
  element.setAttribute("aria-label", `Copy the ${option.length} reply`);
  element.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(option.text);
      element.textContent = "Copied";
      element.classList.add("copied");
    } catch {
      element.textContent = "Select and copy the text";
    }
    setTimeout(() => {
      element.textContent = "Copy";
      element.classList.remove("copied");
    }, 2000);
  });
  return element;
}

// The facts that stand in no source, each as a whole: "4" is not marked within "14:00" or "4,250".
export function marked(text, unsupported) {
  const present = [...new Set(unsupported.map((one) => one.quote))].filter((quote) => quote && text.includes(quote));
  if (present.length === 0) return [text];
  present.sort((one, other) => other.length - one.length);
  const parts = text.split(new RegExp(`(${present.map((quote) => whole(quote, text)).join("|")})`, "u"));
  return parts.map((part, number) => number % 2 === 0 ? part
    : make("mark", { title: "Neither in the screenshot nor in your words: check before you send" }, part));
}

function whole(quote, text) {
  const letter = "0-9A-Za-z\u00c0-\u024f";
  const isLetter = new RegExp(`[${letter}]`, "u");
  const literal = quote.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
  const before = (isLetter.test(quote[0]) ? `(?<![${letter}])` : "") + (/\d/.test(quote[0]) ? "(?<!\\d[.,:])" : "");
  const last = quote[quote.length - 1];
  const after = (isLetter.test(last) ? `(?![${letter}])` : "") + (/\d/.test(last) ? "(?![.,:]\\d)" : "");
  return new RegExp(before + literal + after, "u").test(text) ? before + literal + after : literal;
}
