"""With threadpoolctl: BLAS has one thread while tiles run side by side, and afterwards what it had, come what may."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

import attention_ref as ar
from attention_ref.layer import weighted_sum
from attention_ref.pipeline.tiled import blas

pytestmark = pytest.mark.extra
ASKED = 3


def threads():
    """How many threads each loaded BLAS would use now."""
    return [library["num_threads"] for library in ThreadpoolController().select(user_api="blas").info()]


@pytest.fixture
def several():
    """BLAS at three threads, whatever this process was started with."""
    with ThreadpoolController().limit(limits=ASKED, user_api="blas"):
        assert set(threads()) == {ASKED}
        yield


@pytest.fixture
def seen(monkeypatch):
    """The numbers of threads inside the tile loop."""
    found, product = [], weighted_sum.selected_matmul

    def watched(*arguments):
        found.extend(threads())
        return product(*arguments)

    monkeypatch.setattr(weighted_sum, "selected_matmul", watched)
    monkeypatch.setattr("attention_ref.pipeline.tiled.workers.cores", lambda: 2)
    return found


def attend(**more):
    q, k, v = np.random.default_rng(0).standard_normal((3, 2, 67, 8))
    return ar.attention(q, k, v, tile=16, **more)


@pytest.mark.parametrize("own", [True, False], ids=["own threads", "an executor"])
def test_one_thread_inside_and_what_it_was_afterwards(own, several, seen):
    with ThreadPoolExecutor(2) as executor:
        a = attend(**({} if own else {"executor": executor}))
        assert set(seen) == {1}
        assert set(threads()) == {ASKED}
        a.backward(np.ones(a.o.shape))
        assert set(threads()) == {ASKED}


def test_what_it_was_after_an_exception(several, monkeypatch):
    def broken(*arguments):
        assert set(threads()) == {1}
        raise RuntimeError("in the middle of a tile")

    monkeypatch.setattr(weighted_sum, "selected_matmul", broken)
    monkeypatch.setattr("attention_ref.pipeline.tiled.workers.cores", lambda: 2)
    with pytest.raises(RuntimeError, match="in the middle of a tile"):
        attend()
    assert set(threads()) == {ASKED}


def test_calls_that_overlap_give_back_what_the_first_found(several):
    first, second = blas.one_thread(), blas.one_thread()
    first.__enter__()
    second.__enter__()
    assert set(threads()) == {1}
    first.__exit__(None, None, None)
    assert set(threads()) == {1}
    second.__exit__(None, None, None)
    assert set(threads()) == {ASKED}


def test_blas_may_have_all_threads_at_first():
    """In a process that nobody has limited, tasks run side by side with one BLAS thread each."""
    code = (
        "import numpy as np, attention_ref as ar\n"
        "from threadpoolctl import threadpool_info\n"
        "from attention_ref.pipeline.tiled import blas\n"
        "before = threadpool_info()\n"
        "with blas.one_thread():\n"
        "    print({x['num_threads'] for x in threadpool_info() if x['user_api'] == 'blas'})\n"
        "print(threadpool_info() == before, blas.one_thread_possible())\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "{1}\nTrue True\n"
