import gc
import mmap
import subprocess
import sys

import numpy as np
import pytest

import attention_ref as ar
from attention_ref.tiled import memory

SHAPE = (3, 41, 1021)


@pytest.fixture(autouse=True)
def nothing_waits():
    memory.release()
    yield
    memory.release()


def address(x):
    return x.__array_interface__["data"][0]


def test_memory_is_used_again_when_the_last_view_is_gone():
    x = memory.empty(SHAPE, np.float32)
    at, view = address(x), x[1, ::2]
    del x
    y = memory.empty(SHAPE, np.float32)
    assert address(y) != at, "a view still looks at the first array"
    del view
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


def test_zeros_are_zeros_where_something_was():
    memory.empty(SHAPE, np.float32).fill(7)
    assert not memory.zeros(SHAPE, np.float32).any()


@pytest.mark.parametrize("shape", [(), (0, 5), (7, 11)])
def test_small_arrays_are_plain(shape):
    assert memory.empty(shape, np.float64).base is None
    assert memory.zeros(shape, np.float64).shape == shape


def test_no_more_waits_than_the_limit(monkeypatch):
    monkeypatch.setattr(memory, "MOST", 2**20)
    held = [memory.empty((2**19,), np.uint8) for _ in range(5)]
    held.clear()
    gc.collect()
    assert [len(same) for same in memory.idle.values()] == [2]


def test_what_cannot_be_had_is_numpys_error(monkeypatch):
    def none(size):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(memory, "fresh", none)
    assert memory.empty(SHAPE, np.float32).shape == SHAPE
    with pytest.raises(MemoryError, match="Unable to allocate"):
        memory.empty((2**30, 2**30), np.float32)


def used_again():
    x = memory.zeros(SHAPE, np.float32)
    at = address(x)
    del x
    (waits,) = [same for same in memory.idle.values() if same]
    return np.frombuffer(waits[0], np.uint8).__array_interface__["data"][0] == at


def test_systems_without_private_maps_or_advice(monkeypatch):
    for name in ("MAP_PRIVATE", "MADV_FREE", "MADV_HUGEPAGE"):
        monkeypatch.delattr(mmap, name, raising=False)
    monkeypatch.setattr(memory, "LARGE", 0)
    assert used_again()


def test_systems_that_do_not_know_the_advice(monkeypatch):
    for name in ("MADV_FREE", "MADV_HUGEPAGE"):
        monkeypatch.setattr(mmap, name, 12345, raising=False)
    monkeypatch.setattr(memory, "LARGE", 0)
    assert used_again()


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


def test_a_process_ends_in_silence_while_arrays_live():
    code = (
        "import builtins\n"
        "from attention_ref.tiled import memory\n"
        "builtins.held = [memory.zeros((1024, 1024), float)]\n"
        "builtins.held.append(builtins.held)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
