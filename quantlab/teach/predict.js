// Predict, then reveal: a guess on empty axes or among choices, then the measured answer beside it.
import { Plot, announce, button, clamp, live, number, panel, shell, tag, withUnit } from "./explorer_parts.js";

// 1, 2 or 5 times a power of ten: about 1/100 of the span, so that a guess is a round number.
function fine(low, high) {
  const raw = (high - low) / 100, power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
}
const sign = (v) => (v > 0 ? "above" : "below");

// ---- the three forms: what is drawn, how a hand and a key change the draft, what is said
function choiceForm(spec, state, changed) {
  const group = `ql-choices-${spec.name}`, root = tag("div", { class: "ql-choices", role: "radiogroup", "aria-label": spec.question });
  const items = spec.choices.map(([text, said]) => {
    const input = tag("input", { type: "radio", name: group, value: text });
    const badge = tag("span", { class: "ql-badge" }), why = tag("span", { class: "ql-why" });
    input.addEventListener("change", () => { state.draft = text; changed(); });
    const item = tag("label", {}, input, tag("span", {}, text), badge, why);
    root.append(item);
    return { text, said, input, badge, why, item };
  });
  return {
    root, hint: "Pick one.",
    draw(guess) {
      const open = guess !== undefined;
      for (const { text, said, input, badge, why, item } of items) {
        input.checked = text === (open ? guess : state.draft);
        input.disabled = open;
        const marks = open ? [...(text === guess ? ["your guess"] : []), ...(text === spec.answer ? ["measured"] : [])] : [];
        badge.textContent = marks.join(" = ");
        why.textContent = open && text === guess ? said : "";
        item.className = marks.includes("measured") ? "ql-measured" : "";
      }
    },
    say: (guess) => (guess === spec.answer ? `As you said: ${spec.answer}.` : `You said: ${guess}. Measured: ${spec.answer}.`),
    shown: () => `Measured: ${spec.answer}.`,
  };
}

function axesForm(spec, state, changed) {
  const curve = spec.form === "curve", [low, high] = spec.span, step = fine(low, high);
  const name = spec.label || "your guess", text = (v) => withUnit(number(v), spec.unit), axis = spec.unit ? `${name} (${spec.unit})` : name;
  const frame = panel("", [], curve ? 240 : 104), svg = frame.svg, grip = tag("div", { class: curve ? "ql-grip ql-draw" : "ql-grip", tabindex: 0, role: "slider",
    "aria-label": `${spec.question} ${axis}`, "aria-valuemin": low, "aria-valuemax": high });
  const places = curve ? spec.x : [0], numeric = curve && places.every((v) => typeof v === "number");
  const place = (i) => (numeric ? places[i] : i), ends = [place(0), place(places.length - 1)];
  const room = (Math.max(...ends) - Math.min(...ends)) * 0.04;
  // A round number inside the span; on a logarithmic axis two digits.
  const round = (v) => clamp(spec.log ? +v.toPrecision(2) : +(Math.round(v / step) * step).toPrecision(12), low, high);
  let plot = null, at = 0, last = null;
  frame.root.classList.add("ql-axes");
  frame.root.replaceChildren(grip);
  grip.append(svg);

  const start = () => (spec.log ? Math.sqrt(low * high) : (low + high) / 2);
  const put = (i, v) => {
    // The first touch lays a level line; the hand then bends it.
    if (curve) { state.draft ??= places.map(() => round(v)); state.draft[i] = round(v); } else state.draft = round(v);
    at = i;
  };
  const spot = (e) => {
    const box = svg.getBoundingClientRect(), k = plot.width / box.width, px = (e.clientX - box.left) * k, py = (e.clientY - box.top) * k;
    if (!curve) return [0, plot.atX(px)];
    const i = places.reduce((best, _, j) => (Math.abs(plot.X(place(j)) - px) < Math.abs(plot.X(place(best)) - px) ? j : best), 0);
    return [i, plot.atY(py)];
  };
  const drag = (e) => {
    const [i, v] = spot(e);
    if (last && Math.abs(i - last[0]) > 1) { // a fast stroke skips places: fill them
      const ahead = Math.sign(i - last[0]);
      for (let j = last[0] + ahead; j !== i; j += ahead) put(j, last[1] + (v - last[1]) * (j - last[0]) / (i - last[0]));
    }
    put(i, v);
    last = [i, v];
    changed();
  };
  grip.addEventListener("pointerdown", (e) => {
    if (state.open() || e.button) return;
    grip.setPointerCapture(e.pointerId);
    last = null;
    drag(e);
  });
  grip.addEventListener("pointermove", (e) => { if (last && !state.open()) drag(e); });
  for (const end of ["pointerup", "pointercancel"]) grip.addEventListener(end, () => { last = null; });
  grip.addEventListener("keydown", (e) => {
    if (state.open()) return;
    const now = (curve ? state.draft?.[at] : state.draft) ?? start();
    const jump = { ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10, ...(curve ? {} : { ArrowRight: 1, ArrowLeft: -1 }) }[e.key];
    const walk = curve && { ArrowRight: 1, ArrowLeft: -1 }[e.key];
    if (jump) put(at, spec.log ? now * 1.12 ** jump : now + jump * step);
    else if (walk) { state.draft ??= places.map(start).map(round); at = clamp(at + walk, 0, places.length - 1); }
    else if (e.key === "Home") put(at, low);
    else if (e.key === "End") put(at, high);
    else return;
    e.preventDefault();
    changed();
  });

  const points = (values) => values.map((v, i) => [place(i), v ?? NaN]);
  return {
    root: frame.root, frame,
    hint: curve ? "Draw your curve: drag across the empty axes. With keys: ← → choose a place, ↑ ↓ move it."
      : "Tap the axis where you expect the answer. With keys: ← and →.",
    draw(guess) {
      const open = guess !== undefined, mine = open ? guess : state.draft, given = mine !== undefined && mine !== null;
      if (curve) {
        plot = new Plot(frame.width, frame.height, { x: [Math.min(...ends) - room, Math.max(...ends) + room], y: [low, high], ylog: spec.log,
          xlabel: spec.xlabel, ylabel: axis, xticks: places.map((_, i) => place(i)), xname: numeric ? number : (i) => places[i] });
        if (open) {
          plot.line(points(spec.answer), "ql-quantized");
          for (const [x, y] of points(spec.answer)) plot.dot(x, y, "ql-quantized");
        }
        if (given) {
          plot.line(points(mine), "ql-guess");
          points(mine).forEach(([x, y], i) => plot.diamond(x, y, "ql-guess", !open && i === at ? 7 : 5));
        }
      } else {
        plot = new Plot(frame.width, frame.height, { x: [low, high], y: [0, 1], xlabel: axis, ylabel: "", yticks: [], log: spec.log });
        const label = (v, y, words) => plot.note(clamp(plot.X(v), plot.left + 45, plot.right - 45), y, words, "middle");
        if (open) {
          plot.vertical(spec.answer, "ql-quantized").dot(spec.answer, 0.3, "ql-quantized", 6);
          label(spec.answer, plot.bottom - 4, `measured ${text(spec.answer)}`);
        }
        if (given) {
          plot.vertical(mine, "ql-guess").diamond(mine, 0.55, "ql-guess", 7);
          label(mine, plot.top + 8, `your guess ${text(mine)}`);
        }
      }
      frame.show(plot, open ? `your guess and the measured ${name}` : "empty axes for your guess");
      const value = curve ? mine?.[at] : mine;
      grip.setAttribute("aria-valuenow", value ?? start());
      grip.setAttribute("aria-valuetext", value === undefined || value === null ? "no guess yet" : curve ? `at ${places[at]}: ${text(value)}` : text(value));
      grip.setAttribute("aria-disabled", open);
      grip.classList.toggle("ql-closed", open);
    },
    say(guess) {
      if (!curve) {
        const off = guess - spec.answer;
        const far = spec.log ? `a factor of ${number(Math.max(guess / spec.answer, spec.answer / guess), 2)}` : text(+Math.abs(off).toPrecision(2));
        return `You said ${text(guess)}; measured ${text(spec.answer)}.` + (Math.abs(off) < step / 2 ? " On the spot." : ` Your guess is ${far} ${sign(off)} it.`);
      }
      const offs = spec.answer.map((v, i) => (v === null ? 0 : spec.log ? Math.log(guess[i] / v) : guess[i] - v));
      const worst = offs.reduce((b, v, i) => (Math.abs(v) > Math.abs(offs[b]) ? i : b), 0);
      return `Your curve is farthest off at ${spec.xlabel ? `${spec.xlabel} = ` : ""}${places[worst]}: you drew ${text(guess[worst])}, measured ${text(spec.answer[worst] ?? NaN)}.`;
    },
    shown: () => (curve ? "The measured curve is drawn." : `Measured: ${text(spec.answer)}.`),
  };
}

function render({ model, el }) {
  const spec = model.get("spec"), ui = shell(el, `Predict: ${spec.question}`, "ql-predict");
  const key = `ql-guess:${location.pathname}:${spec.name}`, kept = model.isStatic ? store() : null;
  const state = { draft: undefined, open: () => "value" in model.get("guess") || "skipped" in model.get("guess") };
  const put = (guess) => {
    model.set("guess", guess);
    model.save_changes();
    if (Object.keys(guess).length) kept?.setItem(key, JSON.stringify(guess));
    else kept?.removeItem(key);
  };
  try {
    const before = JSON.parse(kept?.getItem(key) ?? "{}");
    if ("skipped" in before || fits(spec, before.value)) model.set("guess", before);
  } catch { /* what another version kept is no guess */ }
  const form = (spec.form === "choice" ? choiceForm : axesForm)(spec, state, () => draw());
  const commit = button("This is my guess", () => { put({ value: state.draft }); ui.status.focus(); });
  const skip = button("Show me", () => { put({ skipped: true }); ui.status.focus(); });
  const again = button("Guess again", () => { state.draft = undefined; put({}); });
  const wait = tag("span", { class: "ql-key-words" }, model.isStatic ? "The measured answer and what follows unfold after it." : "");
  commit.classList.add("ql-main");
  skip.classList.add("ql-show");
  ui.status.tabIndex = -1;
  ui.controls.replaceWith(tag("p", { class: "ql-question" }, tag("b", {}, "Predict. "), spec.question));
  ui.panels.append(form.root);
  ui.panels.after(tag("div", { class: "ql-actions" }, commit, skip, again, wait));
  ui.stats.remove();
  ui.root.append(ui.status, ui.words);
  const paper = matchMedia("print");
  let told = null;
  const draw = () => {
    const guess = model.get("guess"), decided = state.open(), open = decided || paper.matches;
    form.draw(open ? guess.value ?? null : undefined);
    commit.hidden = skip.hidden = open;
    again.hidden = !open;
    wait.hidden = open;
    commit.disabled = state.draft === undefined;
    const text = !open ? form.hint : "value" in guess ? form.say(guess.value) : form.shown();
    if (ui.status.textContent !== text) ui.status.textContent = text;
    ui.words.replaceChildren(...(open && spec.because ? [tag("p", { class: "ql-caption" }, spec.because)] : []));
    if (decided !== told) announce(spec.name, told = decided, { ...spec, guess: guess.value });
  };
  paper.addEventListener("change", draw); // a printed question shows its answer
  const undo = live(model, ["guess"], ui.root, () => (form.frame ? [form.frame] : []), draw, { address: false });
  return () => { undo(); paper.removeEventListener("change", draw); };
}
function store() {
  try { return window.sessionStorage; } catch { return null; } // a browser may forbid it
}
function fits(spec, value) {
  if (spec.form === "choice") return spec.choices.some(([text]) => text === value);
  if (spec.form === "number") return Number.isFinite(value);
  return Array.isArray(value) && value.length === spec.x.length && value.every(Number.isFinite);
}
export default { render };
