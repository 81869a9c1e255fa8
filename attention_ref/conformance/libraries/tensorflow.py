"""TensorFlow: the attentions of TensorFlow Addons (Luong, Bahdanau), whose package has ended, by their formulas."""

from attention_ref.conformance.libraries.preset import DEAD, Known, Preset, four_axes, refuse


def masked_softmax(scores, k_lengths):
    """As in Addons: what is after the length is -inf; a length of 0 gives NaN, which it asserts against."""
    import tensorflow as tf

    if k_lengths is not None:
        keep = tf.sequence_mask(k_lengths[..., 0], scores.shape[-1])[:, None, None]
        scores = tf.where(keep, scores, tf.constant(float("-inf"), scores.dtype))
    return tf.nn.softmax(scores)


def joined(q, k, v):
    import tensorflow as tf

    (q, k, v), original = four_axes(tf.broadcast_to, q, k, v)
    if q.shape[1] != k.shape[1]:
        refuse("it has no heads")
    return q, k, v, original


def luong(q, k, v, *, w=None, k_lengths=None):
    import tensorflow as tf

    q, k, v, original = joined(q, k, v)
    if w is not None:
        k = tf.einsum("...jc,dc->...jd", k, w)
    alpha = masked_softmax(tf.matmul(q, k, transpose_b=True), k_lengths)
    return {"o": original(tf.matmul(alpha, v)), "alpha": original(alpha)}


def bahdanau(q, k, v, *, w_q, w_k, b, w_s, k_lengths=None):
    import tensorflow as tf

    q, k, v, original = joined(q, k, v)
    from_q, from_k = tf.einsum("...id,xd->...ix", q, w_q), tf.einsum("...jc,xc->...jx", k, w_k)
    scores = tf.reduce_sum(w_s * tf.tanh(from_k[..., None, :, :] + from_q[..., :, None, :] + b), -1)
    alpha = masked_softmax(scores, k_lengths)
    return {"o": original(tf.matmul(alpha, v)), "alpha": original(alpha)}


NO_LENGTH = Known("a length of 0, which Addons asserts against, gives NaN", DEAD, ("k_lengths",), nan_from="empty rows")

PRESETS = (
    Preset("tf.luong", "tensorflow", luong, rules={"dot": {}, "general": {}}, known=(NO_LENGTH,), note="by formula"),
    Preset("tf.bahdanau", "tensorflow", bahdanau, rules={"additive": {}}, known=(NO_LENGTH,), note="by formula"),
)
