// The page: a sentence, the sheet of what every node writes at every token, and what changes when a cell does.
import { direct, encode, nodes, opened, run, word } from "./engine.js";

const EDITS = {
  "0": ["×0", (row) => row.map(() => 0)],
  half: ["×½", (row) => row.map((x) => x / 2)],
  double: ["×2", (row) => row.map((x) => 2 * x)],
  twin: ["twin", null],
};
// What it is, the sentence, why this word, rather than this, the twin.
const EXAMPLES = [
  ["who gets it", "When Mary and John went to the store, John gave a drink to", " Mary", " John", "When Mary and John went to the store, Mary gave a drink to"],
  ["he or she", "Then Mary went to the store because", " she", " he", "Then John went to the store because"],
  ["is or are", "The pictures near the car", " are", " is", "The picture near the car"],
  ["which capital", "Yesterday the capital of France was", " Paris", " Rome", "Yesterday the capital of Italy was"],
  ["which bracket", "The man (a friend of the king", ")", "]", "The man [a friend of the king"],
  ["a later year", "The war lasted from the year 1732 to the year 17", "60", "20", "The war lasted from the year 1702 to the year 17"],
  ["what came after it before", " dog red store key Monday dog red store", " key", " Monday", " dog red store cat Monday dog red store"],
];
const model = opened(globalThis.MODEL), edits = new Map();
const by = (id) => document.getElementById(id);
const read = () => ({ prompt: by("prompt").value, answer: by("answer").value, other: by("other").value, twin: by("twin").value });

function single(text, what) {
  const ids = encode(model, text);
  if (ids.length === 1) return ids[0];
  const spaced = encode(model, ` ${text.trim()}`);
  throw new Error(`${what} ${JSON.stringify(text)} is ${ids.length} tokens: ${ids.map((i) => JSON.stringify(word(model, i))).join(" ")}` +
    (spaced.length === 1 ? `; try ${JSON.stringify(` ${text.trim()}`)}` : "; one that the model knows as a whole is wanted"));
}

function shown() {
  const start = performance.now(), asked = read();
  const tokens = encode(model, asked.prompt);
  if (!tokens.length) throw new Error("an empty sentence: type one, as it stands before the word that is due");
  if (tokens.length > model.config.n_ctx) throw new Error(`${tokens.length} tokens: the model reads up to ${model.config.n_ctx}`);
  const answer = single(asked.answer, "the answer"), other = single(asked.other, "the other word");
  const before = run(model, tokens);
  const twin = asked.twin ? run(model, aligned(tokens, encode(model, asked.twin))) : null;
  for (const key of [...edits.keys()]) if (Number(key.split("@")[1]) >= tokens.length) edits.delete(key);
  const changes = new Map([...edits].map(([key, kind]) => [key, change(kind, key, twin)]));
  const after = changes.size ? run(model, tokens, changes) : before;
  const effects = direct(model, after, answer, other);
  const difference = (done) => done.logits[answer] - done.logits[other];
  sheet(tokens, after, before, effects);
  answers(before, after, difference(before), difference(after));
  globalThis.found = { tokens, before: difference(before), after: difference(after), logits: [...after.logits], effects, took: performance.now() - start };
}

function aligned(tokens, others) {
  if (others.length === tokens.length) return others;
  throw new Error(`the twin has ${others.length} tokens, the sentence ${tokens.length}: as many are wanted`);
}

function change(kind, key, twin) {
  if (kind !== "twin") return EDITS[kind][1];
  if (!twin) throw new Error(`${key} = twin: type a twin sentence, or take the edit away`);
  return (_, t) => twin.writes[key.split("@")[0]][t];
}

function sheet(tokens, after, before, effects) {
  const names = nodes(model.config), most = Math.max(...names.slice(1).flatMap((name) => after.writes[name].map(size)));
  const most_effect = Math.max(...names.map((name) => Math.abs(effects[name])));
  const head = element("tr", [element("th", ["node"]), ...tokens.map((id) => element("th", [word(model, id).replace(" ", "·")])), element("th", ["direct effect"])]);
  const rows = names.map((name) => element("tr", [
    element("th", [name], { scope: "row" }),
    ...tokens.map((_, t) => cell(name, t, Math.sqrt(size(after.writes[name][t]) / most), moved(after, before, name, t))),
    element("td", [signed(effects[name])], { class: "effect", style: `--share:${(0.6 * effects[name]) / most_effect}` }),
  ]));
  by("sheet").replaceChildren(element("thead", [head]), element("tbody", rows));
}

function cell(name, t, share, other) {
  const key = `${name}@${t}`, kind = edits.get(key);
  const button = element("button", [kind ? EDITS[kind][0] : ""], {
    type: "button", "data-cell": key, title: `${key}: click to edit`, "aria-pressed": String(Boolean(kind)),
    class: [kind && "edited", other && "moved"].filter(Boolean).join(" "), style: `--share:${Math.min(1, share).toFixed(3)}`,
  });
  button.addEventListener("click", () => {
    const wanted = by("kind").value;
    if (edits.get(key) === wanted) edits.delete(key); else edits.set(key, wanted);
    update(key);
  });
  return element("td", [button]);
}

function answers(before, after, was, is) {
  const best = (done) => [...done.logits.keys()].sort((a, b) => done.logits[b] - done.logits[a]).slice(0, 5);
  const line = (done) => best(done).map((id) => `${JSON.stringify(word(model, id))} ${done.logits[id].toFixed(2)}`).join("   ");
  by("difference").textContent = signed(was) + (edits.size ? ` → ${signed(is)}   (${signed(is - was)})` : "");
  by("top").textContent = edits.size ? `${line(before)}\n${line(after)}` : line(before);
  by("edits").textContent = [...edits].map(([key, kind]) => `${key} ${EDITS[kind][0]}`).join("   ") || "none: click a cell";
}

const size = (row) => Math.sqrt(row.reduce((a, b) => a + b * b, 0));
const moved = (after, before, name, t) => after !== before && after.writes[name][t].some((x, i) => Math.abs(x - before.writes[name][t][i]) > 1e-9);
const signed = (x) => (x < 0 ? "−" : "+") + Math.abs(x).toFixed(2);

function element(tag, children, attributes = {}) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function update(focus) {
  try {
    shown();
    by("error").textContent = "";
  } catch (error) {
    by("error").textContent = error.message;
  }
  if (focus) document.querySelector(`[data-cell="${CSS.escape(focus)}"]`)?.focus();
}

for (const id of ["prompt", "answer", "other", "twin"]) by(id).addEventListener("change", () => update());
by("example").append(...EXAMPLES.map(([name], i) => element("option", [name], { value: String(i) })));
by("example").addEventListener("change", () => {
  const [, ...given] = EXAMPLES[Number(by("example").value)];
  ["prompt", "answer", "other", "twin"].forEach((id, i) => { by(id).value = given[i]; });
  edits.clear();
  update();
});
by("clear").addEventListener("click", () => { edits.clear(); update(); });
update();
globalThis.encoded = (text) => encode(model, text);
globalThis.ready = performance.now();
