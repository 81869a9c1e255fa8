"""Draw the picture of the READMEs: `python docs/readme_picture.py docs/readme.png`.

Left: what the translator of notebook 8 looks at, after ten seconds of training. Middle: a gradient. Right: a kernel's
mistake in one tile.
"""

import sys

import numpy as np

import attention_ref as ar
from attention_ref import plot
from attention_ref.cli.train import TASKS
from attention_ref.plot.drawing.figures import Picture
from attention_ref.train.loop import train

ENGLISH = "she buys the red car"
TILE = (16, 16)


def alignment(ax):
    make, settings = TASKS["translate"]
    task = make()
    model = train(task, "additive", settings).model
    [(tokens, alpha)] = model.decode([task.source(ENGLISH)], task.longest)
    french = task.target_text(tokens)
    assert french == ["elle", "achète", "la", "voiture", "rouge"]
    assert alpha.argmax(axis=1)[:5].tolist() == [0, 1, 4, 4, 3]  # voiture: car, rouge: red, la: car, for its gender
    plot.alignment(alpha[: len(french)], ENGLISH.split(), french, ax=ax, annot=True)
    ax.set_title("it learns: English → French")


def gradient(ax):
    q, k, v, do = np.random.default_rng(2).standard_normal((4, 12, 8))
    a = ar.attention(q, k, v, causal=True)
    dalpha = do @ v.T
    ds = a.alpha * (dalpha - (a.alpha * dalpha).sum(axis=1, keepdims=True))
    assert np.allclose(ds @ k / np.sqrt(8), a.backward(do)["q"])
    plot.gradient(ds, allowed=np.tri(12, dtype=bool), ax=ax, title="it explains: the gradient of the scores")


def difference(ax):
    want = ar.attention(*np.random.default_rng(4).standard_normal((3, 48, 8))).alpha
    got = want.astype(np.float32).astype(np.float64)
    got[16:32, 32:] *= 1 + 3e-7
    plot.difference(got, want, "rel", tile=TILE, ax=ax, title="it finds: a float32 kernel's wrong tile")


def main(path):
    figure = Picture(figsize=(14, 4.5), layout="constrained")
    for draw, ax in zip((alignment, gradient, difference), figure.subplots(1, 3), strict=True):
        draw(ax)
    plot.save(figure, path, dpi=75)


if __name__ == "__main__":
    main(*sys.argv[1:])
