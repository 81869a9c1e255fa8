// Scaled dot-product attention in JavaScript, checked by: attention-ref check --command 'node examples/kernel.js'
"use strict";
const fs = require("fs");

function read() {
  const bytes = fs.readFileSync(0);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString());
  const words = header.__metadata__;
  delete header.__metadata__;
  const arrays = {};
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
    const [start, stop] = data_offsets.map((at) => at + 8 + length);
    arrays[name] = { dtype, shape, bytes: bytes.subarray(start, stop) };
  }
  return { arrays, words };
}

function write(arrays, words) {
  const header = { __metadata__: words };
  let at = 0;
  for (const [name, { shape, data }] of Object.entries(arrays)) {
    header[name] = { dtype: "F32", shape, data_offsets: [at, at + data.byteLength] };
    at += data.byteLength;
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const parts = Object.values(arrays).map(({ data }) => Buffer.from(data.buffer));
  fs.writeSync(1, Buffer.concat([length, text, ...parts]));
}

function refuse(sentence) {
  write({}, { unsupported: sentence });
  process.exit(0);
}

function floats({ bytes }) {
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
}

const { arrays, words } = read();
if (words.role !== "forward") refuse("forward only");
const option = Object.keys(words).find((name) => name.startsWith("option.") && name !== "option.causal");
if (option) refuse(`no ${option.slice(7)}`);
const other = Object.keys(arrays).find((name) => !["q", "k", "v"].includes(name));
if (other) refuse(`no ${other}`);
if (arrays.q.dtype !== "F32") refuse("float32 only");
const causal = words["option.causal"] === "true";

const lead = arrays.q.shape.slice(0, -2);
for (const name of ["k", "v"])
  if (arrays[name].shape.slice(0, -2).join() !== lead.join()) refuse("heads of its own for every query head only");
const [queries, width] = arrays.q.shape.slice(-2);
const [keys, values] = arrays.v.shape.slice(-2);
if (causal && queries !== keys) refuse("causal for as many queries as keys only");

const [q, k, v] = ["q", "k", "v"].map((name) => floats(arrays[name]));
const heads = lead.reduce((a, b) => a * b, 1);
const o = new Float32Array(heads * queries * values);
const lse = new Float32Array(heads * queries);
for (let h = 0; h < heads; h++) {
  for (let i = 0; i < queries; i++) {
    const scores = [];
    for (let j = 0; j < (causal ? i + 1 : keys); j++) {
      let s = 0;
      for (let d = 0; d < width; d++) s += q[(h * queries + i) * width + d] * k[(h * keys + j) * width + d];
      scores.push(s / Math.sqrt(width));
    }
    const top = Math.max(...scores);
    const weights = scores.map((s) => Math.exp(s - top));
    const sum = weights.reduce((a, b) => a + b, 0);
    lse[h * queries + i] = top + Math.log(sum);
    for (let e = 0; e < values; e++) {
      let total = 0;
      weights.forEach((w, j) => (total += (w / sum) * v[(h * keys + j) * values + e]));
      o[(h * queries + i) * values + e] = total;
    }
  }
}
write({ o: { shape: [...lead, queries, values], data: o }, lse: { shape: [...lead, queries], data: lse } }, {});
