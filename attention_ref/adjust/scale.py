"""Scale: every score times one factor."""

SIGNATURE = "s[... i j] scale(... i j) -> scaled[... i j]"
FORMULA = r"s_{ij} \leftarrow \lambda s_{ij}"
SOURCE = "000 §3.3"


def definition(xp, s, scale):
    return scale * s


def forward(s, scale):
    return s * scale, {"s": s, "scale": scale}


def backward(dscaled, *, s, scale):
    return {"s": dscaled * scale, "scale": dscaled * s}
