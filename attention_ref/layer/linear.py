"""Linear layer: y = W x + b, with W as [out in]."""

from attention_ref.op.arrays import leading_sum, outer_sum

SIGNATURE = "x[... m] w[y m] b?[y] -> y[... y]"
FORMULA = r"y = W x + b"
SOURCE = "000 §4.1, 001 §5, 002 Attn (nn.Linear)"
VARIANTS = ({"include": ("b",)}, {})


def definition(xp, x, w, b=None):
    y = xp.einsum("...m,ym->...y", x, w)
    return y if b is None else y + b


def forward(x, w, b=None):
    y = x @ w.T
    return y if b is None else y + b, {"x": x, "w": w}


def backward(dy, *, x, w):
    return {"x": dy @ w, "w": outer_sum(dy, x), "b": leading_sum(dy)}
