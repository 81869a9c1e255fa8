"""The catalog as a Markdown page: every rule, mechanism and op with its formula, signature and source."""

from attention_ref import mechanisms, ops, rules

HEAD = """# The catalog

Written by `attention-ref rules --markdown` from the registry; a test keeps it current. The axes in the signatures:
`b` batch, `h` head, `i` query, `j` key, `d` key width, `e` value width, `t` time, `...` any leading axes; `?` marks
what may be left out, `<v` an integer below v."""
RULES = """## Attention rules

Each scores queries against keys. Then, unless it says otherwise, softmax over the keys gives `alpha`, and
o_i = Σ_j α_ij v_j: `ar.attention(q, k, v, rule="its name")`."""
MECHANISMS = """## Mechanisms

Attention inside layers and networks: `value, tape = ar.mechanisms["its name"].forward(...)`."""
OPS = """## Ops

The stages that rules and mechanisms are made of: `ar.ops["its name"]`."""


def markdown():
    """The whole page."""
    parts = [HEAD, RULES]
    parts += [entry(name, op, op.module.score.SIGNATURE, f"score/{name}") for name, op in rules.items()]
    parts += [MECHANISMS, *(entry(name, op, op.signature, f"mechanism/{name}") for name, op in mechanisms.items())]
    stages = {name: op for name, op in ops.items() if name.partition(".")[0] not in ("score", "mechanism")}
    parts += [OPS, *(entry(name, op, op.signature, name.replace(".", "/")) for name, op in stages.items())]
    return "\n\n".join(parts) + "\n"


def entry(name, op, signature, path):
    first, _, rest = op.doc.partition("\n\n")
    lines = [f"### `{name}`", " ".join(first.split()), f"$$ {op.formula} $$", f"```text\n{signature}\n```"]
    lines += [" ".join(paragraph.split()) for paragraph in rest.split("\n\n") if paragraph]
    where = f"[attention_ref/{path}.py](../attention_ref/{path}.py)"
    return "\n\n".join([*lines, f"Source: {op.source}. Code: {where}."])
