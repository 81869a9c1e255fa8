"""The vectors' answers by another route: `decimal`, from the formulas, agrees bit for bit, results and gradients."""

import numpy as np
import pytest
from decimal_attention import evaluate

from attention_ref.vectors import encoding

OPTIONS = {"causal", "window", "align", "normalize", "dropout_p"}
NORMALIZERS = {None, "softmax", "softmax_off_by_one", "sigmoid", "double_softmax", "sparsemax"}
ARRAYS = {"allowed", "scale", "softcap", "bias", "sink", "dropout", "q_segments", "k_segments"}
KINKS = {"EmptyKeys", "Subnormal", "HugeRange", "NaNBehindMask", "InfBehindMask"}


def eligible(group, test):
    """One head, finite numbers of ordinary size, options that the formulas in `decimal_attention` have."""
    parameters = set(test["inputs"]) - {"q", "k", "v"} - ARRAYS
    zero_query = test["comment"] == "queries of zero"
    return (
        test["result"] != "invalid"
        and group["type"] != "large"
        and len(test["inputs"]["q"]["shape"]) == 2
        and all(len(entry["shape"]) < 3 for entry in test["inputs"].values())
        and not parameters & {"alibi_slopes", "relative_table", "k_lengths", "q_lengths"}
        and set(test["options"]) <= OPTIONS
        and test["options"].get("normalize") in NORMALIZERS
        and not KINKS & set(test["flags"])
        and not zero_query
    )


def sample():
    found = [(file, group["rule"], test) for file, group, test in encoding.vectors() if eligible(group, test)]
    order = np.random.default_rng(60).permutation(len(found))
    return [found[n] for n in order]


SAMPLE = sample()


def label(entry):
    return f"{entry[0]}-{entry[2]['tcId']}"


def agree(entry):
    _, rule, test = entry
    inputs, cotangents = encoding.tree(test["inputs"]), encoding.tree(test["cotangents"])
    results, gradients = evaluate(
        rule, inputs, test["options"], cotangents, 450 if "SoftcapSaturated" in test["flags"] else 150
    )
    for kind, got in (("results", results), ("gradients", gradients)):
        want = {name: encoding.decoded(x).ravel().tolist() for name, x in test["expected"][kind].items()}
        assert got == want, kind


@pytest.mark.parametrize("entry", SAMPLE[:8], ids=label)
def test_decimal_agrees(entry):
    agree(entry)


@pytest.mark.slow
@pytest.mark.parametrize("entry", SAMPLE[8:80], ids=label)
def test_decimal_agrees_on_more(entry):
    agree(entry)


def test_the_sample_is_large_and_mixed():
    assert len(SAMPLE) > 250
    assert len({rule for _, rule, _ in SAMPLE[:80]}) >= 9


def test_a_changed_bit_is_seen():
    file, rule, test = next(entry for entry in SAMPLE if entry[1] == "scaled_dot")
    o = encoding.decoded(test["expected"]["results"]["o"])
    o.flat[0] = np.nextafter(o.flat[0], 9)
    expected = test["expected"] | {"results": test["expected"]["results"] | {"o": encoding.encoded(o)}}
    with pytest.raises(AssertionError, match="results"):
        agree((file, rule, test | {"expected": expected}))
