"""Bias: an array of any broadcast shape added to the scores; -inf in it forbids."""

SIGNATURE = "s[... i j] bias(... i j) -> biased[... i j]"
FORMULA = r"s_{ij} \leftarrow s_{ij} + b_{ij}"
SOURCE = "Vaswani et al. 2017 (the additive mask); ONNX Attention"


def definition(xp, s, bias):
    return s + bias


def forward(s, bias):
    return s + bias, {}


def backward(dbiased):
    return {"s": dbiased, "bias": dbiased}
