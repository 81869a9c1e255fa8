"""Scale: every score times one factor."""

SIGNATURE = "s[... i j] scale(... i j) -> scaled[... i j]"
FORMULA = r"s_{ij} \leftarrow \lambda s_{ij}"
SOURCE = "000 §3.3"


def definition(xp, s, scale):
    return scale * s


def forward(s, scale):
    return s * scale, {"s": s, "scale": scale}


def backward(dscaled, *, s, scale):
    ds = {"s": dscaled * scale}
    if isinstance(scale, (int, float)):
        return ds  # a rule's own factor is a constant; its gradient would be one more pass over all the scores
    return ds | {"scale": dscaled * s}
