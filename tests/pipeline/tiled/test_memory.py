import subprocess
import sys

import numpy as np
import pytest

import attention_ref as ar
from attention_ref.pipeline.tiled import memory

SHAPE = (3, 41, 1021)


@pytest.fixture(autouse=True)
def nothing_waits():
    memory.release()
    yield
    memory.release()


def address(x):
    return x.__array_interface__["data"][0]


def waiting():
    """How many pieces wait, by size."""
    memory.take_back()
    return {size: len(same) for size, same in memory.idle.items() if same}


def test_memory_is_used_again_when_the_last_view_is_gone():
    x = memory.empty(SHAPE, np.float32)
    at, view = address(x), x[1, ::2]
    del x
    assert not waiting(), "a view still looks at the array"
    del view
    assert len(waiting()) == 1
    assert address(memory.empty(SHAPE, np.float32)) == at
    assert address(memory.empty((SHAPE[0] * SHAPE[1], SHAPE[2]), np.int32)) == at


def test_arrays_that_live_at_once_share_nothing():
    rng, held = np.random.default_rng(5), []
    for n in range(300):
        shape = tuple(rng.integers(200, 500, 2))
        held.append((n, memory.empty(shape, rng.choice([np.float32, np.float64]))))
        held[-1][1].fill(n)
        if len(held) > 8:
            held.pop(rng.integers(len(held)))
        for number, x in held:
            assert (x == number).all()
    assert waiting()


def test_zeros_are_zeros_where_something_was():
    x = memory.empty(SHAPE, np.float32)
    x.fill(7)
    at = address(x)
    del x
    again, fresh = memory.zeros(SHAPE, np.float32), memory.zeros((5, *SHAPE), np.float32)
    assert address(again) == at
    assert not again.any()
    assert not fresh.any()


@pytest.mark.parametrize("shape", [(), (0, 5), (7, 11)])
def test_small_arrays_are_plain(shape):
    assert memory.empty(shape, np.float64).base is None
    assert memory.zeros(shape, np.float64).shape == shape


@pytest.mark.parametrize("size", [2**18, 2**18 + 1, 300_001, 2**20 - 1, 2**20, 10**7])
def test_a_piece_is_at_most_an_eighth_larger(size):
    assert size <= memory.rounded(size) <= size * 9 / 8
    assert memory.empty((size,), np.uint8).shape == (size,)


def test_all_pieces_together_keep_to_the_limit(monkeypatch):
    monkeypatch.setattr(memory, "MOST", 2**20)
    held = [memory.empty((2**18,), np.uint8) for _ in range(6)]
    assert [x.base is None for x in held] == [False] * 4 + [True] * 2, "what exceeds the limit is plain"
    del held
    assert waiting() == {2**18: 4}
    large = memory.zeros((3 * 2**18,), np.uint8)
    assert large.base is not None
    assert waiting() == {2**18: 1}, "sizes that nobody asks for any more make room"


@pytest.mark.parametrize(
    ("shape", "error"), [((2**30, 2**30), MemoryError), ((2**31, 2**30), ValueError), ((2**62, 4), ValueError)]
)
def test_what_cannot_be_had_is_numpys_error(shape, error):
    with pytest.raises(error):
        memory.empty(shape, np.float32)


def test_no_code_runs_when_an_array_dies():
    """A Ctrl-C that arrives there would be lost: Python swallows what is raised in a finalizer."""
    x, ran = memory.empty(SHAPE, np.float32), []
    sys.setprofile(lambda frame, event, argument: ran.append(event))
    del x
    sys.setprofile(None)
    assert "call" not in ran
    assert waiting()


def test_results_are_not_written_over_by_later_calls():
    rng = np.random.default_rng(8)
    q, k, v, do = (rng.standard_normal((2, 521, 67)) for _ in range(4))
    first = ar.attention(q, k, v, tile=256)
    o, grads = first.o, first.backward(do)
    want = {"o": o.copy()} | {name: x.copy() for name, x in grads.items()}
    assert o.nbytes > memory.LEAST
    del first
    for _ in range(3):
        ar.attention(-q, k, v, tile=256).backward(do)
    for name, x in ({"o": o} | grads).items():
        np.testing.assert_array_equal(x, want[name], err_msg=name)


def test_no_array_is_made_for_a_result_that_has_one(monkeypatch):
    rng = np.random.default_rng(9)
    q, k, v, do = (rng.standard_normal((521, 67)) for _ in range(4))
    out = {name: np.ones_like(q) for name in "oqkv"}
    made, borrowed = [], memory.borrowed
    monkeypatch.setattr(memory, "borrowed", lambda shape, *rest: made.append(shape) or borrowed(shape, *rest))
    a = ar.attention(q, k, v, tile=64, window=(9, 9), align=0, out=out["o"])
    a.backward(do, out={name: out[name] for name in "qkv"})
    assert made
    assert q.shape not in made


CODE = {
    "a cycle in builtins": "import builtins; builtins.held = [memory.zeros((1024, 1024), float)]; held.append(held)",
    "a hook of sys": "import sys; x = memory.zeros((1024, 1024), float); sys.excepthook = lambda *_: print(x)",
    "another module": "x = np.held = memory.zeros((1024, 1024), float); np.module = memory",
}


@pytest.mark.parametrize("held", CODE)
def test_a_process_ends_in_silence_while_arrays_live(held):
    code = f"import numpy as np\nfrom attention_ref.pipeline.tiled import memory\n{CODE[held]}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
