"""Faults of the catalog planted in correct kernels: caught, and called by their name."""

import json
import os

import pytest
from thinned import thinned

from attention_ref import OptionError
from attention_ref.oracle.diagnose.faults import ARITHMETIC, MISTAKES, ROOMS
from attention_ref.oracle.diagnose.faults.kernel import Narrow
from attention_ref.oracle.power import Fault, Power, every_fault, power

TILES = "shape-3x131,shape-131x5,shape-65x63,shape-35x35"
CASES = {
    "positions": "shape-17x17,causal,causal-offset,causal-bottom-right,causal-top-left,causal-offsets,"
    "causal-lengths,window,window-left,window-right,window-self,segments,mask-half",
    "masks": "shape-17x17,causal,causal-lengths,k-lengths,q-k-lengths,mask-half,mask-causal,mask-dead-rows,"
    "poison-nan-mask",
    "stages": "shape-17x17,width-8x16,softcap,softcap-bias,softcap-mask,bias,scale,scale-by-head,alibi,"
    "alibi-bottom-right,relative",
    "weights": "shape-17x17,sink,dropout,dropout-heavy",
    "heads": "shape-17x17,width-8x16,gqa,gqa-3,mqa,causal",
    "softmax": f"{TILES},values-huge,values-last-key,mask-half,sink,softcap,causal,large-last-key",
    "gradients": f"{TILES},shape-17x17,bias,bias-by-head,sink,softcap,dropout,alibi,relative,"
    "poison-nan-mask,poison-nan-lengths,poison-nan-dead-rows",
    "sums": f"{TILES},gqa,shared-k,bias-by-head",
}
NEEDED = (
    f"{TILES},shape-131x67,causal-offsets,causal-lengths,window-left,window-right,q-k-lengths,mask-causal,scale-by-head,"
    "softcap-bias,softcap-mask,values-huge,values-last-key,large-last-key,poison-nan-dead-rows,poison-nan-lengths"
).split(",")
INVISIBLE = {"normalizer-epsilon", "scale-unasked"}


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.__name__.rpartition(".")[2])
@pytest.mark.parametrize("part", [pytest.param(part, marks=[pytest.mark.slow] * (part > 0)) for part in range(4)])
def test_every_mistake_is_caught_and_named(room, part):
    names = [mistake.name() for mistake in room.CATALOG if mistake.tile not in (32, 64)][part::4]
    found = power(cases=CASES[room.__name__.rpartition(".")[2]], faults=names)
    assert {outcome.fault for outcome in found.unseen} <= INVISIBLE
    assert [(o.fault, o.said) for o in found.misnamed] == []


def test_arithmetic_that_is_too_coarse_is_caught_and_named():
    found = power(cases="shape-17x17,causal,values-peaked", faults=list(ARITHMETIC))
    assert found.unseen == []
    assert [(o.fault, o.said) for o in found.misnamed] == []


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_faults_are_named_in_low_precision(dtype):
    names = ["causal-strict", "scale-missing", "softcap-after-bias", "heads-interleaved", "rescale-missing-16"]
    names += ["d-missing", "dq-unscaled", "group-first", "lse-base-two", "max-missing", "dropout-unscaled"]
    names += ["last-key-dropped", "nan-through-keys", "causal-ignored (backward only)"]
    cases = "shape-17x17,causal,softcap-bias,gqa,values-last-key,values-huge,dropout,poison-nan-mask,k-lengths"
    found = power(cases=cases, dtype=dtype, faults=names)
    assert found.unseen == []
    assert [(o.fault, o.said) for o in found.misnamed] == []


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_catalog_is_caught(dtype):
    """By a case of core for each flag, and those that a fault needs; with ATTENTION_REF_WHOLE=1, by all of core.

    `attention-ref power --dtype …` is the same as a table.
    """
    found = power(cases="core" if "ATTENTION_REF_WHOLE" in os.environ else [*thinned(1), *NEEDED], dtype=dtype)
    assert all(o.reason.startswith("below rounding") and o.score <= 1 for o in found.unseen), found.unseen
    assert len(found.misnamed) <= len(found.caught) / 10, [(o.fault, o.said) for o in found.misnamed]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_nothing_is_caught_where_nothing_is_planted(dtype, monkeypatch):
    from attention_ref.oracle import power as module

    kernels = [Fault(Narrow, host, "both") for host in module.HOSTS]
    monkeypatch.setattr(module, "planted", lambda names, dtype: kernels)
    found = power(cases="shape-35x35,causal-lengths,mask-dead-rows,gqa-mask,sink-causal,dropout,shared-kv", dtype=dtype)
    assert found.caught == []
    assert all(outcome.score < 1e-6 for outcome in found.outcomes)


def test_there_are_enough_faults():
    for dtype in ("float32", "bfloat16", "float16"):
        faults = list(every_fault(dtype))
        assert len(faults) >= 60
        assert len({fault.name for fault in faults}) == len(faults)
    clauses = [mistake.clause() for mistake in (MISTAKES | ARITHMETIC).values()]
    assert all(clauses)
    assert len(set(clauses)) == len(clauses)


def test_a_fault_that_cannot_be_seen_is_listed_with_the_reason():
    found = power(cases="shape-17x17", faults=["normalizer-epsilon", "sink-ignored", "scale-missing"])
    assert [outcome.fault for outcome in found.unseen] == ["normalizer-epsilon", "sink-ignored"]
    rounding, elsewhere = (outcome.reason for outcome in found.unseen)
    assert rounding.startswith("below rounding: 1e-6 added to the normalizer changes no result by more than 0.")
    assert elsewhere == "no case here depends on it"
    assert 0 < found.unseen[0].score < 1


def test_the_table_fits_the_page_and_the_json_says_the_same():
    found = power(cases="shape-17x17,causal,values-huge", faults=["causal-ignored", "max-missing", "sink-ignored"])
    page = str(found)
    assert max(map(len, page.splitlines())) <= 100
    assert page.startswith(
        "3 faults planted in scaled_dot, float32 under f32, 3 cases (shape-17x17, causal, values-huge)"
    )
    assert "2 caught, 2 of them called by their name" in page
    data = json.loads(found.to_json())
    assert (data["schema"], data["version"]) == ("attention_ref/power", 1)
    assert (data["faults"], data["caught"], data["diagnosed"]) == (3, 2, 2)
    assert [o["fault"] for o in data["outcomes"]] == ["causal-ignored", "max-missing", "sink-ignored"]
    assert isinstance(found, Power)


def test_the_same_twice():
    arguments = {"cases": "shape-17x17,gqa", "faults": ["heads-interleaved", "dk-transposed"], "dtype": "bfloat16"}
    assert power(**arguments) == power(**arguments)


def test_an_unknown_fault_is_refused():
    with pytest.raises(
        OptionError, match="there is no fault 'causal-ignord' in float32; did you mean 'causal-ignored'"
    ):
        power(faults=["causal-ignord"])


def test_another_rule_has_its_faults_found():
    found = power(
        "additive", cases="shape-17x17,causal,gqa", faults=["causal-strict", "heads-interleaved", "d-missing"]
    )
    assert len(found.caught) == 3
    assert found.misnamed == []
