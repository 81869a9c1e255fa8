"""Tiles by executors: threads, processes, a local cluster; what happens when a worker dies or somebody interrupts."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from io import StringIO
from multiprocessing import get_context
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import pytest

import attention_ref as ar
from attention_ref.op import progress
from attention_ref.pipeline.tiled.workers import WorkerLost

SEGMENTS = Path("/dev/shm")


def problem(length=67):
    rng = np.random.default_rng(0)
    q, k, v, do = rng.standard_normal((4, 2, 4, length, 5))
    options = {
        "causal": True,
        "sink": rng.standard_normal(4),
        "bias": rng.standard_normal((length, length)),
        "allowed": ar.masks.lengths(None, np.array([[length // 2], [length]])),
    }
    return (q, k, v), do, options


@pytest.fixture
def left(monkeypatch):
    """The segments that this process made, and that are still there."""
    from attention_ref.pipeline.tiled import shared_memory

    made = []

    def recorded(*args, **named):
        segment = SharedMemory(*args, **named)
        made.append(segment.name)
        return segment

    monkeypatch.setattr(shared_memory, "SharedMemory", recorded)

    def still_there():
        assert made, "no shared memory was made"
        return [name for name in made if (SEGMENTS / name).exists()]

    return still_there


def same_bits(executor):
    arrays, do, options = problem()
    here = ar.attention(*arrays, tile=16, **options)
    there = ar.attention(*arrays, tile=16, executor=executor, **options)
    np.testing.assert_array_equal(there.o, here.o)
    np.testing.assert_array_equal(there.lse, here.lse)
    want = here.backward(do)
    for name, gradient in there.backward(do).items():
        np.testing.assert_array_equal(gradient, want[name], err_msg=name)


def test_threads():
    with ThreadPoolExecutor(3) as executor:
        same_bits(executor)


@pytest.mark.parametrize("start", ["forkserver", "spawn"])
def test_processes_leave_no_shared_memory(start, left):
    with ProcessPoolExecutor(2, mp_context=get_context(start)) as executor:
        same_bits(executor)
        same_bits(executor)
    assert not left()


def die(cell, rows, stop):
    os.kill(os.getpid(), signal.SIGKILL)


def fail(cell, rows, stop):
    raise ZeroDivisionError("planted")


@pytest.mark.parametrize(
    ("work", "error", "message"), [(die, WorkerLost, "queries .* at .0:1, 0:"), (fail, ZeroDivisionError, "planted")]
)
def test_a_worker_that_dies_or_fails_is_named_and_leaves_nothing(work, error, message, monkeypatch, left):
    from attention_ref.pipeline.tiled import passes

    monkeypatch.setattr(passes, "forward", work)
    arrays, _, options = problem()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor, pytest.raises(error, match=message):
        ar.attention(*arrays, tile=16, executor=executor, **options)
    assert not left()


def test_an_error_in_a_thread_is_the_callers(monkeypatch):
    from attention_ref.pipeline.tiled import passes

    monkeypatch.setattr(passes, "forward", fail)
    arrays, _, options = problem()
    with ThreadPoolExecutor(2) as executor, pytest.raises(ZeroDivisionError, match="planted"):
        ar.attention(*arrays, tile=16, executor=executor, **options)


def test_an_interrupt_ends_at_once_and_cleanly():
    """Ctrl-C in the middle of a long call: KeyboardInterrupt, no thread left, nothing else on stderr."""
    script = """
        import threading, time, os, signal
        import numpy as np, attention_ref as ar
        from attention_ref.pipeline.tiled import workers
        workers.cores, workers.one_thread_possible = lambda: 2, lambda: True
        q = np.ones((1, 1 << 15, 16))
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background may ignore it
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        start = time.monotonic()
        try:
            ar.attention(q, q, q, tile=(64, 512))
        except KeyboardInterrupt:
            print("interrupted", threading.active_count(), time.monotonic() - start < 5)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("interrupted 1 True\n", "")


@pytest.fixture
def three_threads(monkeypatch):
    """A call has two threads beside its own, and BLAS is one thread already."""
    from attention_ref.pipeline.tiled import threads, workers

    monkeypatch.setattr(workers, "cores", lambda: 3)
    monkeypatch.setattr(workers, "one_thread_possible", lambda: True)
    yield
    threads.dismiss(threads.back())


def names():
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("attention"))


def test_one_calls_threads_are_the_next_ones(three_threads):
    arrays, do, options = problem()
    found = []
    for _ in range(2):
        ar.attention(*arrays, tile=16, **options).backward(do)
        found.append(names())
    assert len(found[0]) == 2
    assert found[0] == found[1]


def test_no_thread_warns_of_inf_less_inf(three_threads):
    """The gradients of a key are +inf from some queries and -inf from others: NaN, and nothing is said."""
    arrays, do, _ = problem()
    do = do * np.where(np.arange(67) % 32 < 16, np.inf, -np.inf)[:, None]
    for _ in range(5):
        assert np.isnan(ar.attention(*arrays, tile=16).backward(do)["v"]).all()


def test_calls_side_by_side_have_threads_of_their_own_and_leave_no_more_than_one_pair(three_threads):
    arrays, do, options = problem()
    want = ar.attention(*arrays, tile=16, **options).backward(do)
    with ThreadPoolExecutor(4) as callers:
        got = list(callers.map(lambda _: ar.attention(*arrays, tile=16, **options).backward(do), range(12)))
    for grads in got:
        np.testing.assert_array_equal(grads["q"], want["q"])
    assert len(names()) <= 2


def test_a_call_within_a_task_makes_no_more_threads(three_threads, monkeypatch):
    """In the thread that called, and in one that helps."""
    from attention_ref.pipeline.tiled import passes

    arrays, _, options = problem()
    want, found, helped = ar.attention(*arrays, tile=16, **options).o, {}, threading.Event()

    def nested(cell, rows, stop, work=passes.forward):
        here = threading.current_thread()
        if here not in found and len(found) < 9:
            found[here] = None
            found[here] = ar.attention(*arrays, tile=16, **options).o, names()
            if here is not threading.main_thread():
                helped.set()
            assert helped.wait(10)
        return work(cell, rows, stop)

    monkeypatch.setattr(passes, "forward", nested)
    np.testing.assert_array_equal(ar.attention(*arrays, tile=16, **options).o, want)
    assert threading.main_thread() in found
    for o, there in found.values():
        np.testing.assert_array_equal(o, want)
        assert len(there) == 2


def test_an_error_stops_and_dismisses_the_threads(three_threads, monkeypatch):
    from attention_ref.pipeline.tiled import passes

    begun, stopped = threading.Event(), []

    def work(cell, rows, stop):
        if threading.current_thread() is threading.main_thread():
            assert begun.wait(10)
            fail(cell, rows, stop)
        begun.set()
        stopped.append(stop.wait(10))
        raise InterruptedError

    monkeypatch.setattr(passes, "forward", work)
    arrays, _, options = problem()
    with pytest.raises(ZeroDivisionError, match="planted"):
        ar.attention(*arrays, tile=16, **options)
    assert stopped
    assert all(stopped)
    assert not names()


def test_a_helpers_error_is_the_callers(three_threads, monkeypatch):
    from attention_ref.pipeline.tiled import passes

    def work(cell, rows, stop, work=passes.forward):
        if threading.current_thread() is not threading.main_thread():
            failed.set()
            fail(cell, rows, stop)
        assert failed.wait(10)
        ran.append(rows)
        return work(cell, rows, stop)

    failed, ran = threading.Event(), []
    monkeypatch.setattr(passes, "forward", work)
    arrays, _, options = problem()
    with pytest.raises(ZeroDivisionError, match="planted"):
        ar.attention(*arrays, tile=16, **options)
    assert not names()
    assert len(ran) < 2


def test_a_forked_child_has_threads_of_its_own():
    script = """
        import os, sys, warnings
        import numpy as np, attention_ref as ar
        from attention_ref.pipeline.tiled import workers
        warnings.simplefilter("ignore", DeprecationWarning)
        workers.cores, workers.one_thread_possible = lambda: 2, lambda: True
        q = np.random.default_rng(0).standard_normal((2, 67, 5))
        o = ar.attention(q, q, q, tile=16).o
        child = os.fork()
        if not child:
            os._exit(int(not np.array_equal(ar.attention(q, q, q, tile=16).o, o)))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


class Terminal(StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "patience", "said"), [(Terminal, 0, True), (Terminal, 9, False), (StringIO, 0, False)]
)
def test_progress_is_for_those_who_wait_at_a_terminal(stream, patience, said, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", patience)
    monkeypatch.setattr(progress, "PAUSE", 0)
    out = stream()
    monkeypatch.setattr(sys, "stderr", out)
    with progress.Progress(4) as steps:
        for _ in range(4):
            steps.step()
    assert (f"\r{'█' * 16}{'·' * 16} 2/4 attention" in out.getvalue()) == said
    assert out.getvalue().endswith("\r\x1b[K" if said else "")
    assert said or not out.getvalue()
