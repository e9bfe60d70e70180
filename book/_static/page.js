/* The frame of every page: a way to the explorer by keyboard, and tables that say when they scroll. */
(() => {
  "use strict";
  const explorer = 'script[type="application/vnd.jupyter.widget-view+json"], .ql-place';

  function skipLink() {
    const first = document.querySelector(explorer)?.closest(".cell");
    if (!first) return;
    first.id ||= "explorer";
    first.tabIndex = -1; // a place to go to, not a stop on the way
    const link = document.createElement("a");
    link.href = `#${first.id}`;
    link.className = "skip-link d-print-none ql-skip";
    link.textContent = "Go to the explorer";
    document.querySelector(".skip-link, #pst-skip-link")?.after(link);
  }

  const SCROLLING = ".bd-article :is(.ql-wide, pre, mjx-container[display])";
  // A table, a formula or a block of code wider than its column scrolls: then, and only then, it is a tab stop.
  function scrollers() {
    for (const box of document.querySelectorAll(SCROLLING)) {
      const wide = box.scrollWidth > box.clientWidth + 1;
      box.classList.toggle("ql-scrolls", wide);
      if (wide) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  }

  // A table stands in a box that scrolls, so that the table itself keeps its layout.
  function boxes() {
    for (const table of document.querySelectorAll(".bd-article table:not(.ql table)")) {
      const box = document.createElement("div");
      box.className = "ql-wide";
      box.role = "region";
      box.ariaLabel = table.caption?.textContent.trim() || "table";
      table.before(box);
      box.append(table);
    }
  }

  addEventListener("DOMContentLoaded", () => {
    skipLink();
    // A list holds list items; docutils gives its citations a role that readers no longer know.
    for (const entry of document.querySelectorAll(".citation-list > [role=doc-biblioentry]")) entry.role = "listitem";
    boxes();
    scrollers();
    window.MathJax?.startup?.promise.then(scrollers);
    addEventListener("resize", scrollers);
    document.addEventListener("toggle", scrollers, true);
  });
})();
