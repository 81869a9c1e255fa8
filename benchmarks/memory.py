"""The peak of a call's memory: what the process grows by while it runs."""

import ctypes
import gc
import os
import threading
import time
from contextlib import suppress

from attention_ref.pipeline.tiled.memory import release

PAUSE = 0.0005


def given_back():
    """Give free memory back to the system: what a call could use again would not show as its own."""
    release()
    gc.collect()
    with suppress(AttributeError, OSError, TypeError):  # malloc_trim is glibc's
        ctypes.CDLL(None).malloc_trim(0)


def resident():
    """Bytes of this process in memory; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def peak(call):
    """At most how many more bytes were in memory during the call than before it, looked at every half millisecond."""
    given_back()
    before, most, done = resident(), [0], threading.Event()

    def watch():
        while not done.is_set():
            most[0] = max(most[0], resident() - before)
            time.sleep(PAUSE)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        call()
    finally:
        done.set()
        watcher.join()
    return most[0]
