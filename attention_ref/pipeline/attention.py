"""`ar.attention`: any rule with every option, and what it returns."""

from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Any

import numpy as np
import numpy.typing as npt

from attention_ref.errors import OptionError, ShapeError
from attention_ref.masks import Mask
from attention_ref.op.arrays import shown
from attention_ref.op.protocol import OpModule
from attention_ref.pipeline.options import INTERNAL, Align, Dropout, EmptyRow, Normalizer, Tile, Window
from attention_ref.pipeline.rule import Rule, find


class Attended:
    """What attention returns: the output `o`, the weights `alpha`, `lse` (None where it has no meaning) and the `tape`.

    The tape holds the matrix after every stage that ran. Scores: score (as computed, behind masks too), scaled, capped,
    biased (after bias, ALiBi and T5), masked (-inf where not allowed). Weights: alpha (after `empty_row`), dropped. And
    `allowed`: True where every mask allows the pair, and throughout a row that `empty_row` has filled. Backward reads
    these same arrays: copy one before you write into it.
    """

    o: np.ndarray
    alpha: Any  # an array; None in tiles. Not "array | None", which every reader of a.alpha[0] would have to narrow
    lse: Any  # an array; None where the normalizer has none
    tape: dict[str, np.ndarray]

    def __init__(self, rule: Rule, value: tuple, tape: dict[str, Any]):
        self.rule = rule
        self.o, self.alpha, self.lse = value
        self._tape = tape  # all that backward needs
        self.tape = {name: x for name, x in tape.items() if isinstance(x, np.ndarray)}

    def __repr__(self) -> str:
        alpha = "in tiles" if self.alpha is None else f"alpha {self.alpha.shape}"
        return f"<Attended by {self.rule.name}: o {self.o.shape}, {alpha}>"

    def backward(
        self,
        do: npt.ArrayLike | None = None,
        dlse: npt.ArrayLike | None = None,
        dalpha: npt.ArrayLike | None = None,
        out: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
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
        # in the order of the rule's results, (o, alpha, lse); dalpha comes last above because it is rarely given
        grads = self.rule.backward((do, dalpha, dlse), **self._tape, out=out)
        for name, array in out.items():
            grads[name] = written(self.rule.name, name, array, grads.get(name))
        return grads

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled and copied: an executor stays behind."""
        state = self.__dict__.copy()
        if "executor" in self._tape:
            state["_tape"] = self._tape | {"executor": None}
        return state


def attention(
    q: npt.ArrayLike,
    k: npt.ArrayLike,
    v: npt.ArrayLike,
    rule: str | Rule | OpModule = "scaled_dot",
    *,
    allowed: npt.ArrayLike | Mask | None = None,
    causal: bool = False,
    window: Window | None = None,
    align: Align | None = None,
    q_lengths: npt.ArrayLike | None = None,
    k_lengths: npt.ArrayLike | None = None,
    q_segments: npt.ArrayLike | None = None,
    k_segments: npt.ArrayLike | None = None,
    bias: npt.ArrayLike | None = None,
    alibi_slopes: npt.ArrayLike | None = None,
    relative_table: npt.ArrayLike | None = None,
    relative_max_distance: int = 128,
    relative_bidirectional: bool = True,
    scale: npt.ArrayLike | None = None,
    softcap: npt.ArrayLike | None = None,
    sink: npt.ArrayLike | None = None,
    dropout: Dropout | None = None,
    normalize: Normalizer | None = None,
    empty_row: EmptyRow = "zero",
    tile: Tile | None = None,
    executor: Executor | None = None,
    out: np.ndarray | None = None,
    **params: npt.ArrayLike,
) -> Attended:
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
        rule: a name in `ar.rules`, a `Rule`, or a module of your own with the four names
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
    the_rule = find(rule)
    internal = [name for name in INTERNAL if name in params]
    if internal:
        raise the_rule.unknown(internal[0])
    inputs: dict[str, Any] = {
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
    return attend(the_rule, inputs | params)


def attend(rule: Rule, inputs: dict[str, Any]) -> Attended:
    """What a rule gives for inputs and options by name; o is written into out=, if it was given."""
    try:
        value, tape = rule.forward(**inputs)
    except MemoryError as error:
        pairs = f"{np.shape(inputs['q'])[-2]:,} queries and {np.shape(inputs['v'])[-2]:,} keys"
        way_out = 'take tile="auto", or ar.sample for some of the rows'
        raise OptionError(
            f"{rule.name}: the score matrix of {pairs} does not fit into memory ({error}); {way_out}"
        ) from None
    if inputs.get("out") is not None:
        written(rule.name, "o", inputs["out"], value[0])
    return Attended(rule, value, tape)


def written(owner: str, name: str, array: np.ndarray, value: np.ndarray | None) -> np.ndarray:
    """The value in the array given for it, if it is not already there."""
    if value is None:
        raise OptionError(f"{owner}: out= names {name!r}, which has no gradient")
    if getattr(array, "shape", None) != value.shape:
        raise ShapeError(f"{owner}: out= for {name} must be an array of shape {value.shape}; got {shown(array)}")
    if array is not value:
        array[...] = value
    return array
