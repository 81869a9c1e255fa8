"""`ar.attention`: any rule with every option, and what it returns."""

import numpy as np

from attention_ref.errors import OptionError, ShapeError
from attention_ref.op.arrays import shown
from attention_ref.pipeline.options import INTERNAL
from attention_ref.pipeline.rule import find


class Attended:
    """What attention returns: the output `o`, the weights `alpha`, `lse` (None where it has no meaning) and the `tape`.

    The tape holds the score matrix after every stage that was applied: score, scaled, capped, biased, masked (-inf
    where not allowed), alpha, dropped; and `allowed`, the union of all masks. Backward needs these arrays: write into
    a copy.
    """

    def __init__(self, rule, value, tape):
        self.rule = rule
        self.o, self.alpha, self.lse = value
        self._tape = tape  # all that backward needs
        self.tape = {name: x for name, x in tape.items() if isinstance(x, np.ndarray)}

    def __repr__(self):
        alpha = "in tiles" if self.alpha is None else f"alpha {self.alpha.shape}"
        return f"<Attended by {self.rule.name}: o {self.o.shape}, {alpha}>"

    def backward(self, do=None, dlse=None, dalpha=None, out=None):
        """The gradient of every floating-point input, by name.

        >>> import numpy as np
        >>> import attention_ref as ar
        >>> a = ar.attention(**ar.rules["additive"].example(), rule="additive")
        >>> g = a.backward(do=np.random.default_rng(1).standard_normal(a.o.shape))
        >>> list(g)
        ['q', 'k', 'v', 'w_q', 'w_k', 'b', 'w_s']

        Args:
            do, dlse, dalpha: the cotangents of the results; None stands for zeros
            out: arrays by the inputs' names, such as `numpy.memmap`, that the gradients are written into
        """
        out = out or {}
        grads = self.rule.backward((do, dalpha, dlse), **self._tape, out=out)
        for name, array in out.items():
            grads[name] = written(self.rule.name, name, array, grads.get(name))
        return grads

    def __getstate__(self):
        """What is pickled and copied: an executor stays behind."""
        state = self.__dict__.copy()
        if "executor" in self._tape:
            state["_tape"] = self._tape | {"executor": None}
        return state


def attention(
    q,
    k,
    v,
    rule="scaled_dot",
    *,
    allowed=None,
    causal=False,
    window=None,
    align=None,
    q_lengths=None,
    k_lengths=None,
    q_segments=None,
    k_segments=None,
    bias=None,
    alibi_slopes=None,
    relative_table=None,
    relative_max_distance=128,
    relative_bidirectional=True,
    scale=None,
    softcap=None,
    sink=None,
    dropout=None,
    normalize=None,
    empty_row="zero",
    tile=None,
    executor=None,
    out=None,
    **params,
):
    """Attention by a rule's name (or a `Rule`), with every option; the rule's own parameters come by name.

    >>> import numpy as np
    >>> import attention_ref as ar
    >>> rng = np.random.default_rng(0)
    >>> q, k, v = rng.standard_normal((3, 2, 5, 4))  # each: 2 heads, 5 positions, width 4
    >>> a = ar.attention(q, k, v, causal=True)
    >>> a
    <Attended by scaled_dot: o (2, 5, 4), alpha (2, 5, 5)>
    >>> print(a.alpha[0].round(2))
    [[1.   0.   0.   0.   0.  ]
     [0.53 0.47 0.   0.   0.  ]
     [0.3  0.55 0.15 0.   0.  ]
     [0.36 0.05 0.04 0.55 0.  ]
     [0.3  0.49 0.04 0.11 0.06]]
    >>> g = a.backward(rng.standard_normal(a.o.shape))
    >>> list(g)
    ['q', 'k', 'v']

    Args:
        q, k, v: [... i d], [... j d] and [... j e]; k and v may have fewer heads, in groups
        rule: a name in `ar.rules`, or a `Rule`
        allowed: a boolean array that broadcasts to [... i j], or a mask of `ar.masks`; True = may attend
        causal: key j is allowed if j <= i + offset
        window: (left, right): i + offset - left <= j <= i + offset + right, None = unlimited
        align: the offset: "top_left" is 0, "bottom_right" is keys - queries (by the real lengths), or an integer or an
            integer array
        q_lengths, k_lengths: how many queries and keys are real, over the leading axes by broadcasting
        q_segments, k_segments: integer ids; a query attends to its own segment, a negative id is padding
        bias: added to the scores after scale and softcap; -inf forbids
        alibi_slopes: a slope m for each of the leading axes: `- m * abs(j - (i + offset))`
        relative_table: a row of T5's buckets for each of the leading axes
        relative_max_distance, relative_bidirectional: how T5 puts distances into buckets
        scale: a factor of the scores, instead of the rule's own
        softcap: scores become `softcap * tanh(s / softcap)`
        sink: a learned extra score per head that takes weight but has no value
        dropout: (keep, p): the weights kept, and the probability with which they were dropped
        normalize: "softmax", "softmax_off_by_one", "sparsemax", "entmax15", "sigmoid", "double_softmax"
        empty_row: what a row gets that may attend to nothing: "zero", "nan", "uniform", or "raise"
        tile: None: the whole score matrix at once; a number of positions or (queries, keys): tile by tile, without
            alpha and the tape's stages, in memory that grows with the length; "auto": whichever is faster
        executor: a `concurrent.futures` executor for the tiles; None: an internal thread pool, one
            thread per core
        out: an array, such as a `numpy.memmap`, that o is written into
        params: the rule's own parameters, such as `w_q` of "additive"
    """
    rule = find(rule)
    for name in set(INTERNAL) & set(params):
        raise rule.unknown(name)
    inputs = {
        "q": q,
        "k": k,
        "v": v,
        "allowed": allowed,
        "causal": causal,
        "window": window,
        "align": align,
        "q_lengths": q_lengths,
        "k_lengths": k_lengths,
        "q_segments": q_segments,
        "k_segments": k_segments,
        "bias": bias,
        "alibi_slopes": alibi_slopes,
        "relative_table": relative_table,
        "relative_max_distance": relative_max_distance,
        "relative_bidirectional": relative_bidirectional,
        "scale": scale,
        "softcap": softcap,
        "sink": sink,
        "dropout": dropout,
        "normalize": normalize,
        "empty_row": empty_row,
        "tile": tile,
        "executor": executor,
        "out": out,
    }
    return attend(rule, inputs | params)


def attend(rule, inputs):
    """What a rule gives for inputs and options by name; o is written into out=, if it was given."""
    try:
        value, tape = rule.forward(**inputs)
    except MemoryError as error:
        pairs = f"{inputs['q'].shape[-2]:,} queries and {inputs['v'].shape[-2]:,} keys"
        way_out = 'take tile="auto", or ar.sample for some of the rows'
        raise OptionError(
            f"{rule.name}: the score matrix of {pairs} does not fit into memory ({error}); {way_out}"
        ) from None
    if inputs.get("out") is not None:
        written(rule.name, "o", inputs["out"], value[0])
    return Attended(rule, value, tape)


def written(owner, name, array, value):
    """The value in the array given for it, if it is not already there."""
    if value is None:
        raise OptionError(f"{owner}: out= names {name!r}, which has no gradient")
    if getattr(array, "shape", None) != value.shape:
        raise ShapeError(f"{owner}: out= for {name} must be an array of shape {value.shape}; got {shown(array)}")
    if array is not value:
        array[...] = value
    return array
