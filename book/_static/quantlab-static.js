/* Draws the explorers of a built page from the widget state that MyST-NB embeds.
   Loaded in the head, not deferred. No kernel, no RequireJS, no CDN: the ES modules travel in the page, each once
   (explorer_still.py puts them in a list). Keeps folded what a prediction gates until the reader has guessed. */
(() => {
  "use strict";
  const STATE = 'script[type="application/vnd.jupyter.widget-state+json"]';
  const VIEW = 'script[type="application/vnd.jupyter.widget-view+json"]';

  // What anywidget's `model` offers, without a kernel behind it.
  class StaticModel {
    isStatic = true; // send() reaches nobody, so controls that need a kernel never appear
    #state;
    #listeners = new Map();

    constructor({ state, buffers = [] }, number) {
      this.number = number; // its place on the page, for the address
      this.#state = { ...state };
      for (const { path, data } of buffers) {
        const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
        const owner = path.slice(0, -1).reduce((o, key) => o[key], this.#state);
        owner[path.at(-1)] = new DataView(bytes.buffer);
      }
    }
    get(key) { return this.#state[key]; }
    set(key, value) {
      if (Object.is(this.#state[key], value)) return;
      this.#state[key] = value;
      for (const listener of [...(this.#listeners.get(`change:${key}`) ?? [])]) listener();
    }
    on(event, listener) {
      if (!this.#listeners.has(event)) this.#listeners.set(event, new Set());
      this.#listeners.get(event).add(listener);
    }
    off(event, listener) { this.#listeners.get(event)?.delete(listener); }
    save_changes() {}
    send() {}
  }

  const modules = new Map(); // one import per text, however many explorers share it
  function load(text) {
    if (!modules.has(text)) {
      const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
      modules.set(text, import(url).finally(() => URL.revokeObjectURL(url)));
    }
    return modules.get(text);
  }
  const styles = new Set();
  function style(text) {
    if (!text || styles.has(text)) return;
    styles.add(text);
    const sheet = document.createElement("style");
    sheet.textContent = text;
    document.head.append(sheet);
  }

  // ---- what a prediction gates: folded from the first paint, open after the guess
  document.documentElement.classList.add("ql-js");
  const fold = document.createElement("style"); // on paper and without this script all of it is visible
  fold.textContent = `@media screen { html.ql-js .ql-gated:not(.ql-open, [hidden]) { display: none } }
    @media print { .ql-gated[hidden] { display: block !important; content-visibility: visible !important } }`;
  document.head.append(fold);
  const opened = new Set(), asked = new Set();
  const nameOf = (gate) => [...gate.classList].find((c) => c.startsWith("ql-after-"))?.slice(9);
  function gate(node, open) {
    node.classList.toggle("ql-open", open);
    if (open) node.removeAttribute("hidden");
    else node.setAttribute("hidden", "until-found"); // the browser's own search and links still reach it
  }
  function unfold(target) { // a search or a link leads inside
    for (let node = target?.closest?.(".ql-gated"); node; node = node.parentElement.closest(".ql-gated")) {
      opened.add(nameOf(node));
      gate(node, true);
    }
  }
  document.addEventListener("ql-guess", ({ detail: { name, open } }) => {
    if (open) opened.add(name);
    else if (asked.has(name)) opened.delete(name); // at first a link may have opened it
    asked.add(name);
    for (const node of document.querySelectorAll(`.ql-after-${name}`)) gate(node, opened.has(name));
  });
  document.addEventListener("beforematch", (e) => unfold(e.target));
  const follow = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target?.closest(".ql-gated[hidden]")) return;
    unfold(target);
    target.scrollIntoView();
  };
  addEventListener("hashchange", follow);

  async function draw(view, record, number) {
    const place = document.createElement("div");
    place.className = "ql-place";
    view.before(place);
    try {
      if (record?.state._esm === undefined) throw new Error("only explorers are drawn on a built page");
      const model = new StaticModel(record, number);
      style(text(model.get("_css")));
      const { default: widget } = await load(text(model.get("_esm")));
      await widget.render({ model, el: place });
      performance.mark("explorer-drawn");
    } catch (error) {
      console.error(error);
      place.textContent = `This explorer could not start: ${error.message}`;
      for (const node of document.querySelectorAll(".ql-gated")) gate(node, true); // nobody could guess
    }
  }

  // Each explorer is drawn as soon as the parser has reached it: it waits neither for the rest of
  // the page nor for the deferred scripts (icons, MathJax).
  let state = null, texts = [], draws = [];
  const text = (v) => (Array.isArray(v) ? v.map((i) => texts[i]).join("") : v);
  const seen = new WeakSet();
  // While the page loads, an element that nothing follows may still lack half of its text.
  const whole = (node) => node && (document.readyState !== "loading" || node.nextSibling);
  function scan() {
    const embedded = state ? null : document.querySelector(STATE);
    if (whole(embedded)) ({ state, texts = [] } = JSON.parse(embedded.textContent));
    for (const node of document.querySelectorAll('[class*="ql-after-"]:not(.ql-open, [hidden])')) {
      node.classList.add("ql-gated");
      gate(node, opened.has(nameOf(node)));
    }
    if (!state) return;
    for (const view of document.querySelectorAll(VIEW)) {
      if (seen.has(view) || !whole(view)) continue;
      seen.add(view);
      draws.push(draw(view, state[JSON.parse(view.textContent).model_id], draws.length + 1));
    }
  }
  // A block that waits for a prediction which is not on the page would stay folded for ever.
  const check = () => Promise.all(draws).then(() => {
    for (const node of document.querySelectorAll(".ql-gated[hidden]")) {
      if (asked.has(nameOf(node))) continue;
      console.error(`no prediction is named ${nameOf(node)}`);
      gate(node, true);
    }
  });
  scan();
  if (document.readyState === "loading") {
    const watch = new MutationObserver(scan);
    watch.observe(document.documentElement, { childList: true, subtree: true });
    document.addEventListener("DOMContentLoaded", () => { watch.disconnect(); scan(); follow(); check(); });
  }
})();
