"""JAX: jax.nn.dot_product_attention."""

from attention_ref.conformance.libraries.preset import (
    DEAD,
    LEAK,
    NAN_BIAS,
    UNIFORM,
    Known,
    Preset,
    equal_widths,
    four_axes,
    number,
    refuse,
    top_left,
    with_four_axes,
)

TESTED = "0.10.2"
STATIC = ("scale", "is_causal", "local_window_size", "implementation")


def pad(x, n):
    import jax

    return jax.numpy.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, n)])


def per_batch(lengths, batch):
    """Lengths over (batch, head) as one for each member of the batch, which is all that the library can say."""
    import jax

    if lengths.ndim and lengths.shape[-1] != 1:
        refuse("lengths are one for each member of the batch there, the same for every head")
    lengths = lengths.astype(jax.numpy.int32)
    return jax.numpy.broadcast_to(lengths[..., 0] if lengths.ndim else lengths, batch)


def by_implementation(implementation):
    def call(
        function,
        q,
        k,
        v,
        *,
        allowed=None,
        bias=None,
        causal=False,
        window=None,
        align=None,
        q_lengths=None,
        k_lengths=None,
        scale=None,
    ):
        import jax

        numpy = jax.numpy
        (q, k, v), original = four_axes(numpy.broadcast_to, q, k, v)
        queries, keys = q.shape[-2], k.shape[-2]
        if causal or window is not None:
            top_left(queries, keys, align, "what is positional")
        if (q_lengths is not None or k_lengths is not None) and align == "bottom_right" and (causal or window):
            refuse("what is positional is aligned at the top left there")
        q, k, v, scale, values = equal_widths(pad, q, k, v, number("scale", scale))
        if window is not None:
            window = tuple(keys + queries if n is None else n for n in window)
        lengths = [None if n is None else per_batch(n, len(q)) for n in (q_lengths, k_lengths)]
        half = q.dtype == numpy.float16  # which a CPU has no compiled product of
        o = (function if half else jax.jit(function, static_argnames=STATIC))(
            *(numpy.swapaxes(x, 1, 2) for x in (q, k, v)),
            with_four_axes(bias),
            with_four_axes(allowed),
            scale=scale,
            is_causal=causal,
            query_seq_lengths=lengths[0],
            key_value_seq_lengths=lengths[1],
            local_window_size=window,
            implementation=implementation,
        )
        return original(numpy.swapaxes(o, 1, 2)[..., :values])

    return call


MEAN = Known(
    "a row with nothing allowed gives the mean of all values, and dv has its share of it", DEAD, convention=UNIFORM
)

PRESETS = (
    Preset(
        "jax.dot_product_attention",
        "jax",
        by_implementation("xla"),
        "jax.nn:dot_product_attention",
        TESTED,
        models={"float64": "f32"},
        known=(LEAK, MEAN, NAN_BIAS),
        note="its softmax is float32 whatever the inputs are, so float64 is bounded as float32; it is called compiled, "
        "but for float16, which does not compile on a CPU",
    ),
    Preset(
        "jax.dot_product_attention.cudnn",
        "jax",
        by_implementation("cudnn"),
        "jax.nn:dot_product_attention",
        TESTED,
        dtypes=("float16", "bfloat16"),
        device="cuda",
    ),
)
