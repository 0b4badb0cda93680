// Elements whose texts are text nodes. Nothing on this page parses HTML, and its policy forbids it (Trusted Types).
import { SignedOut } from "./api.js";

export const byId = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

/** A button that is disabled while its action runs; a failure is said above it. */
export function button(name, action, className = "action") {
  const element = make("button", { type: "button", className, dir: "auto" }, name);
  element.addEventListener("click", async () => {
    element.disabled = true;
    const place = element.closest(".actions, .progress, footer");
    place.parentElement.querySelector(":scope > .passing")?.remove();
    try {
      await action();
    } catch (error) {
      if (!(error instanceof SignedOut)) place.before(problem(error.message, "problem passing"));
    }
    element.disabled = false;
  });
  return element;
}

export const problem = (text, className = "problem") => make("p", { className, role: "alert", dir: "auto" }, text);
