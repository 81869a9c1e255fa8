"""Tiles by executors: threads, processes, a local cluster; what happens when a worker dies or somebody interrupts."""

import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from io import StringIO
from multiprocessing import get_context
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import pytest

import attention_ref as ar
from attention_ref.tiled import progress
from attention_ref.tiled.run import WorkerLost

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
    from attention_ref.tiled import share

    made = []

    def recorded(*args, **named):
        segment = SharedMemory(*args, **named)
        made.append(segment.name)
        return segment

    monkeypatch.setattr(share, "SharedMemory", recorded)

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
    from attention_ref.tiled import passes

    monkeypatch.setattr(passes, "forward", work)
    arrays, _, options = problem()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor, pytest.raises(error, match=message):
        ar.attention(*arrays, tile=16, executor=executor, **options)
    assert not left()


def test_an_error_in_a_thread_is_the_callers(monkeypatch):
    from attention_ref.tiled import passes

    monkeypatch.setattr(passes, "forward", fail)
    arrays, _, options = problem()
    with ThreadPoolExecutor(2) as executor, pytest.raises(ZeroDivisionError, match="planted"):
        ar.attention(*arrays, tile=16, executor=executor, **options)


def test_an_interrupt_ends_at_once_and_cleanly():
    """Ctrl-C in the middle of a long call: KeyboardInterrupt, no thread left, nothing else on stderr."""
    script = """
        import threading, time, os, signal
        import numpy as np, attention_ref as ar
        from attention_ref.tiled import run
        run.cores, run.one_thread_possible = lambda: 2, lambda: True
        q = np.ones((1, 1 << 15, 16))
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


class Terminal(StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "patience", "said"), [(Terminal, 0, True), (Terminal, 9, False), (StringIO, 0, False)]
)
def test_progress_is_for_those_who_wait_at_a_terminal(stream, patience, said, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", patience)
    out = stream()
    with progress.Progress(4, out) as steps:
        for _ in range(4):
            steps.step()
    assert ("attention: 50 %" in out.getvalue()) == said
    assert not said or out.getvalue().endswith("\r")
