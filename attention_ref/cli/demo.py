"""`attention-ref demo`: write two attentions to play with, one of them wrong, and check both."""

from pathlib import Path
from shlex import quote

import attention_ref as ar
from attention_ref.oracle.run.load import load

KERNELS = '''\
"""Two attentions, forward and backward, to play with: `wrong` lets each query see one key of the future."""

import numpy as np


def attention(q, k, v, visible):
    """(the weights, the output), where query i sees key j if visible[i, j]."""
    if not q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
        raise NotImplementedError("as many key heads as query heads")
    s = q @ np.swapaxes(k, -1, -2) * q.shape[-1] ** -0.5
    s = np.where(visible, s, -np.inf)
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    alpha = e / e.sum(axis=-1, keepdims=True)
    return alpha, alpha @ v


def gradients(do, q, k, v, visible):
    alpha, o = attention(q, k, v, visible)
    dv = np.swapaxes(alpha, -1, -2) @ do
    dalpha = do @ np.swapaxes(v, -1, -2)
    ds = alpha * (dalpha - (do * o).sum(axis=-1, keepdims=True)) * q.shape[-1] ** -0.5
    return {"q": ds @ k, "k": np.swapaxes(ds, -1, -2) @ q, "v": dv}


def visible_pairs(q, k, causal, future=0):
    shape = q.shape[-2], k.shape[-2]
    return np.tri(*shape, future, dtype=bool) if causal else np.ones(shape, dtype=bool)


def right(q, k, v, causal=False):
    return attention(q, k, v, visible_pairs(q, k, causal))[1]


def right_backward(do, q, k, v, o, lse, causal=False):
    return gradients(do, q, k, v, visible_pairs(q, k, causal))


def wrong(q, k, v, causal=False):
    return attention(q, k, v, visible_pairs(q, k, causal, future=1))[1]


def wrong_backward(do, q, k, v, o, lse, causal=False):
    return gradients(do, q, k, v, visible_pairs(q, k, causal, future=1))
'''
LEAK = """\
The gradients of `wrong` are those of its own output: comparing them with finite differences shows
nothing, and a model trained with it only seems to learn faster."""


def add_arguments(parser):
    parser.add_argument("--out", default="demo", metavar="DIR", help="folder for kernels.py and the figure")


def run(args):
    file = Path(args.out, "kernels.py")
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists():
        print(f"{file} is there already, and is checked as it is.\n")
    else:
        file.write_text(KERNELS, encoding="utf-8")
    right, wrong = report(f"{file}:right"), report(f"{file}:wrong")
    print(f"{right}\n\n{wrong}\n")
    if file.read_text(encoding="utf-8") == KERNELS:
        print(f"{LEAK}\n")
    if not wrong.passed:
        figure = file.with_name("wrong.png")
        ar.plot.save(wrong.figure()[0], figure)
        print(f"Where it is wrong: {figure}")
    print(f"Next: change {file}, or take a file of your own, and run")
    print(f"  attention-ref check {quote(f'{file}:wrong')} --backward {quote(f'{file}:wrong_backward')}")
    return 0 if right.passed and not wrong.passed else 1


def report(target):
    """The report of a function in a file, whose commands name the file."""
    checked = ar.check(load(target), backward=load(f"{target}_backward"))
    checked.meta |= {"candidate": target, "backward": f"{target}_backward"}
    return checked
