// Advice looked up among what was measured: a line answers for the controls that it depends on.
import { button, choice, live, shell, slider, tag } from "./explorer_parts.js";

// The place of the present point among the answers of a line, the last control running fastest.
export const place = (controls, by, point) => by.reduce((at, n) => at * controls[n].length + point[n], 0);

function render({ model, el }) {
  const spec = model.get("spec"), { controls, lines } = spec, ui = shell(el, spec.title, "ql-guide");
  const put = (point) => { model.set("point", point); model.save_changes(); };
  const move = (name) => (index) => put({ ...model.get("point"), [name]: +index });
  const knobs = Object.entries(controls).map(([name, texts]) => {
    const knob = spec.sliders.includes(name) ? slider(name, { min: 0, max: texts.length - 1, step: 1 }, move(name))
      : choice(name, texts.map((text, i) => [i, text]), move(name));
    ui.controls.append(knob.root);
    return [name, knob];
  });
  ui.controls.append(tag("div", { class: "ql-buttons" }, button("back to start", () => put(spec.start))));
  const suffix = model.number ? ".html" : ".ipynb"; // a page links pages, JupyterLab notebooks
  if (spec.caption) ui.words.append(tag("p", { class: "ql-caption" }, spec.caption));

  function draw() {
    const point = model.get("point");
    for (const [name, knob] of knobs) knob.set(point[name], knob.words ? controls[name][point[name]] : "");
    const said = lines.map(({ name, by, answers }) => [name, ...answers[place(controls, by, point)]]);
    ui.stats.replaceChildren(tag("dl", {}, ...said.flatMap(([name, text, chapter]) => [tag("dt", {}, name),
      tag("dd", {}, text, ...(chapter ? [" ", tag("a", { href: chapter + suffix }, `chapter ${+chapter.slice(0, 2)}`)] : []))])));
    ui.status.textContent = said.map(([name, text]) => `${name}: ${text}`).join("; "); // every control is heard
  }
  const accept = (_, point) => Object.entries(controls).every(([name, texts]) => texts[point[name]] !== undefined);
  return live(model, ["point"], ui.root, () => [], draw, { accept });
}
export default { render };
