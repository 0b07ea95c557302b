// A GPT-2 in plain JavaScript, every node a row of numbers of its own: the same as the library's, to rounding.
// Knows a model ({config, words, tensors}), tokens and edits; nothing of pages.

const PATTERN = / ?\p{L}+| ?\p{N}{1,2}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** A model from its texts: parameters are base64 of float32, words base64 of bytes. */
export function opened(packed) {
  const tensors = {};
  for (const [name, text] of Object.entries(packed.tensors)) {
    tensors[name] = new Float32Array(bytes(text).buffer);
  }
  const ids = new Map(packed.words.map((word, id) => [atob(word), id]));
  return { config: packed.config, tensors, ids, words: packed.words.map(atob) };
}

function bytes(text) {
  const raw = atob(text), found = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) found[i] = raw.charCodeAt(i);
  return found;
}

/** A text's token ids: pieces by the pattern, each by byte pairs, the earliest word first. */
export function encode(model, text) {
  return (text.match(PATTERN) ?? []).flatMap((piece) => {
    const raw = String.fromCharCode(...new TextEncoder().encode(piece));
    let parts = model.ids.has(raw) ? [raw] : [...raw];
    for (;;) {
      let best = Infinity, at = -1;
      for (let i = 0; i + 1 < parts.length; i++) {
        const rank = model.ids.get(parts[i] + parts[i + 1]) ?? Infinity;
        if (rank < best) [best, at] = [rank, i];
      }
      if (at < 0) return parts.map((part) => model.ids.get(part));
      parts.splice(at, 2, parts[at] + parts[at + 1]);
    }
  });
}

/** A token as a person reads it. */
export function word(model, id) {
  const raw = Uint8Array.from(model.words[id], (c) => c.charCodeAt(0));
  return new TextDecoder().decode(raw);
}

/** The names of all nodes, in the order in which they write. */
export function nodes({ n_layer, n_head }) {
  const found = ["input"];
  for (let layer = 0; layer < n_layer; layer++) {
    for (let head = 0; head < n_head; head++) found.push(`a${layer}.${head}`);
    found.push(`m${layer}`);
  }
  return found;
}

/**
 * A run: what each node writes at each position ({name: [pos][d_model]}), the scores of all words at the last position,
 * and the stream's end there. edits: "a2.6@13" -> (write) => what is written instead.
 */
export function run(model, tokens, edits = new Map()) {
  const { config, tensors: p } = model, { d_model: D, n_layer, n_head, d_mlp } = config;
  const T = tokens.length, writes = {}, size = D / n_head;
  const stream = tokens.map(() => new Float64Array(D));
  const add = (name, rows) => {
    writes[name] = rows.map((row, t) => edits.get(`${name}@${t}`)?.(row, t) ?? row);
    writes[name].forEach((row, t) => row.forEach((x, i) => (stream[t][i] += x)));
  };
  const offset = (name, i) => p[name][i];
  add("input", tokens.map((id, t) => Float64Array.from({ length: D }, (_, i) =>
    p["wte.weight"][id * D + i] + p["wpe.weight"][t * D + i])));
  for (let layer = 0; layer < n_layer; layer++) {
    const h = `h.${layer}`;
    const qkv = stream.map((x) => linear(p, `${h}.attn.c_attn`, normed(p, `${h}.ln_1`, x), D, 3 * D));
    const heads = [];
    for (let head = 0; head < n_head; head++) {
      heads.push(Array.from({ length: T }, (_, t) => attended(p, h, qkv, t, head, size, D)));
    }
    heads.forEach((rows, head) => add(`a${layer}.${head}`, rows));
    stream.forEach((x) => x.forEach((_, i) => (x[i] += offset(`${h}.attn.c_proj.bias`, i))));
    add(`m${layer}`, stream.map((x) => {
      const inner = linear(p, `${h}.mlp.c_fc`, normed(p, `${h}.ln_2`, x), D, d_mlp).map(gelu);
      return linear(p, `${h}.mlp.c_proj`, inner, d_mlp, D);
    }));
  }
  const end = stream[T - 1], out = normed(p, "ln_f", end), logits = new Float64Array(config.n_vocab);
  for (let id = 0; id < logits.length; id++) {
    let sum = 0;
    for (let i = 0; i < D; i++) sum += out[i] * p["wte.weight"][id * D + i];
    logits[id] = sum;
  }
  return { tokens, writes, logits, end };
}

/** What one head writes at one position. */
function attended(p, h, qkv, t, head, size, D) {
  const at = head * size, scores = [];
  for (let s = 0; s <= t; s++) {
    let sum = 0;
    for (let i = 0; i < size; i++) sum += qkv[t][at + i] * qkv[s][D + at + i];
    scores.push(sum / Math.sqrt(size));
  }
  const top = Math.max(...scores), weights = scores.map((x) => Math.exp(x - top));
  const whole = weights.reduce((a, b) => a + b), z = new Float64Array(size);
  weights.forEach((w, s) => z.forEach((_, i) => (z[i] += (w / whole) * qkv[s][2 * D + at + i])));
  const row = new Float64Array(D), project = p[`${h}.attn.c_proj.weight`];
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < D; j++) row[j] += z[i] * project[(at + i) * D + j];
  }
  return row;
}

function normed(p, name, x) {
  const mean = x.reduce((a, b) => a + b) / x.length;
  const scale = Math.sqrt(x.reduce((a, b) => a + (b - mean) ** 2, 0) / x.length + 1e-5);
  return x.map((v, i) => ((v - mean) / scale) * p[`${name}.weight`][i] + p[`${name}.bias`][i]);
}

function linear(p, name, x, from, to) {
  const weight = p[`${name}.weight`], found = Float64Array.from(p[`${name}.bias`]);
  for (let i = 0; i < from; i++) {
    for (let j = 0; j < to; j++) found[j] += x[i] * weight[i * to + j];
  }
  return found;
}

function gelu(x) {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}

/** What each node's write at the last position adds to one word's score less another's, LayerNorm's scale as it is. */
export function direct(model, done, answer, other) {
  const { config, tensors: p } = model, D = config.d_model, x = done.end;
  const mean = x.reduce((a, b) => a + b) / D;
  const scale = Math.sqrt(x.reduce((a, b) => a + (b - mean) ** 2, 0) / D + 1e-5);
  const toward = Float64Array.from({ length: D }, (_, i) =>
    ((p["wte.weight"][answer * D + i] - p["wte.weight"][other * D + i]) * p["ln_f.weight"][i]) / scale);
  return Object.fromEntries(Object.entries(done.writes).map(([name, rows]) => {
    const row = rows.at(-1), own = row.reduce((a, b) => a + b) / D;
    return [name, row.reduce((sum, v, i) => sum + (v - own) * toward[i], 0)];
  }));
}
