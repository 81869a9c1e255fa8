// Judge a naive attention, forward and backward, by one file of attention vectors:  node check.js scaled_dot.json
// Replace `attend` by a call of your own kernel. What it does not support is skipped and counted.
"use strict";
const fs = require("fs");

// Arrays: bits -> numbers. float64 is 16 hexadecimal digits an element, bfloat16 4 (the upper half of a float32).
function decode(entry) {
  const { dtype, shape, bits } = entry;
  if (dtype === "int64") return { shape, data: entry.values };
  if (dtype === "bool") return { shape, data: Array.from(bits, (c) => c === "1") };
  const digits = dtype === "float64" ? 16 : 4;
  return { shape, data: numbers(bits, digits) };
}

function numbers(bits, digits) {
  const view = new DataView(new ArrayBuffer(8)), data = [];
  for (let at = 0; at < bits.length; at += digits) {
    const word = bits.slice(at, at + digits).padEnd(digits === 16 ? 16 : 8, "0");
    for (let n = 0; n < word.length / 2; n++) view.setUint8(n, parseInt(word.slice(2 * n, 2 * n + 2), 16));
    data.push(digits === 16 ? view.getFloat64(0) : view.getFloat32(0));
  }
  return data;
}

const ARRAYS = ["q", "k", "v", "allowed", "scale", "softcap", "bias"];
const OPTIONS = ["causal", "window", "align"];

function supported(test) {
  const scalar = (x) => x === undefined || x.shape.length === 0;
  return test.result !== "invalid" && Object.keys(test.inputs).every((name) => ARRAYS.includes(name)) &&
    Object.keys(test.options).every((name) => OPTIONS.includes(name)) && test.inputs.q.shape.length === 2 &&
    scalar(test.inputs.scale) && scalar(test.inputs.softcap) && Object.keys(test.cotangents).join() === "o";
}

// The kernel under test: o, and the gradients of q, k and v for the cotangent `go`; all of it in doubles.
function attend({ q, k, v, allowed, scale, softcap, bias }, options, go, rule) {
  const [L, d] = q.shape, [S, e] = v.shape;
  const factor = scale ? scale.data[0] : rule === "scaled_dot" ? 1 / Math.sqrt(d) : 1;
  const cap = softcap && softcap.data[0];
  const offset = options.align === "bottom_right" ? S - L : Number.isInteger(options.align) ? options.align : 0;
  const [left, right] = options.window || [null, null];
  const at = (x, i, j) => x.data[(x.shape[0] === 1 ? 0 : i) * S + j];
  const may = (i, j) => (!allowed || at(allowed, i, j)) && (!bias || at(bias, i, j) !== -Infinity) &&
    (!options.causal || j <= i + offset) && (left === null || j >= i + offset - left) &&
    (right === null || j <= i + offset + right);
  const o = Array(L * e).fill(0), dq = Array(L * d).fill(0), dk = Array(S * d).fill(0), dv = Array(S * e).fill(0);
  for (let i = 0; i < L; i++) {
    const keys = [...Array(S).keys()].filter((j) => may(i, j));
    const dot = (j) => { let s = 0; for (let n = 0; n < d; n++) s += q.data[i * d + n] * k.data[j * d + n]; return s; };
    const raw = keys.map((j) => dot(j) * factor);
    const s = raw.map((x, n) => (cap ? cap * Math.tanh(x / cap) : x) + (bias ? at(bias, i, keys[n]) : 0));
    const m = Math.max(...s), p = s.map((x) => Math.exp(x - m)), z = p.reduce((a, b) => a + b, 0);
    const alpha = p.map((x) => x / z);
    const dalpha = keys.map((j, n) => {
      let sum = 0;
      for (let c = 0; c < e; c++) {
        o[i * e + c] += alpha[n] * v.data[j * e + c];
        dv[j * e + c] += alpha[n] * go.data[i * e + c];
        sum += go.data[i * e + c] * v.data[j * e + c];
      }
      return sum;
    });
    const row = alpha.reduce((a, x, n) => a + x * dalpha[n], 0);
    keys.forEach((j, n) => {
      const ds = alpha[n] * (dalpha[n] - row) * (cap ? 1 - Math.tanh(raw[n] / cap) ** 2 : 1) * factor;
      for (let c = 0; c < d; c++) { dq[i * d + c] += ds * k.data[j * d + c]; dk[j * d + c] += ds * q.data[i * d + c]; }
    });
  }
  return { results: { o }, gradients: { q: dq, k: dk, v: dv } };
}

// Within the bound, element by element; NaN only where NaN is right; an infinite bound asks for nothing.
function within(got, want, limit) {
  return want.every((x, n) => Object.is(got[n], x) || got[n] === x || Math.abs(got[n] - x) <= limit[n] || limit[n] === Infinity);
}

function matches(got, answer, model) {
  return ["results", "gradients"].every((kind) => Object.keys(got[kind]).every((name) =>
    within(got[kind][name], decode(answer.expected[kind][name]).data, numbers(answer.bounds[model][kind][name], 4))));
}

const model = process.argv[3] || "f64", file = JSON.parse(fs.readFileSync(process.argv[2]));
let passed = 0, skipped = 0, failed = 0;
for (const group of file.testGroups) for (const test of group.tests) {
  if (!supported(test) || !(model in test.bounds)) { skipped++; continue; }
  const inputs = Object.fromEntries(Object.entries(test.inputs).map(([name, x]) => [name, decode(x)]));
  const got = attend(inputs, test.options, decode(test.cotangents.o), group.rule);
  const answers = [test, ...Object.values(test.alternatives || {})];
  if (answers.some((answer) => matches(got, answer, model))) passed++;
  else { failed++; console.log(`FAILED ${test.tcId}: ${test.comment} [${test.flags.join(" ")}]`); }
}
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exit(failed || !passed ? 1 : 0);
