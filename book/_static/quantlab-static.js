/* Draws the explorers of a built page from the widget state that MyST-NB embeds.
   Loaded in the head, not deferred. No kernel, no RequireJS, no CDN: each explorer's ES module travels in its state. */
(() => {
  "use strict";
  const STATE = 'script[type="application/vnd.jupyter.widget-state+json"]';
  const VIEW = 'script[type="application/vnd.jupyter.widget-view+json"]';

  // What anywidget's `model` offers, without a kernel behind it.
  class StaticModel {
    isStatic = true; // send() reaches nobody, so controls that need a kernel never appear
    #state;
    #listeners = new Map();

    constructor({ state, buffers = [] }) {
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

  async function draw(view, record) {
    const place = document.createElement("div");
    place.className = "ql-place";
    view.before(place);
    try {
      if (record?.state._esm === undefined) throw new Error("only explorers are drawn on a built page");
      const model = new StaticModel(record);
      style(model.get("_css"));
      const { default: widget } = await load(model.get("_esm"));
      await widget.render({ model, el: place });
      performance.mark("explorer-drawn");
    } catch (error) {
      console.error(error);
      place.textContent = `This explorer could not start: ${error.message}`;
    }
  }

  // Each explorer is drawn as soon as the parser has reached it: it waits neither for the rest of
  // the page nor for the deferred scripts (icons, MathJax).
  let state = null;
  const seen = new WeakSet();
  // While the page loads, an element that nothing follows may still lack half of its text.
  const whole = (node) => node && (document.readyState !== "loading" || node.nextSibling);
  function scan() {
    const embedded = state ? null : document.querySelector(STATE);
    if (whole(embedded)) state = JSON.parse(embedded.textContent).state;
    if (!state) return;
    for (const view of document.querySelectorAll(VIEW)) {
      if (seen.has(view) || !whole(view)) continue;
      seen.add(view);
      draw(view, state[JSON.parse(view.textContent).model_id]);
    }
  }
  scan();
  if (document.readyState === "loading") {
    const watch = new MutationObserver(scan);
    watch.observe(document.documentElement, { childList: true, subtree: true });
    document.addEventListener("DOMContentLoaded", () => { watch.disconnect(); scan(); });
  }
})();
