"""The threads that help where no executor is given: kept from one call to the next, gone after an error."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import local

here, idle = local(), []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=idle.clear)


@contextmanager
def lent(count):
    """A pool of `count` threads, for one call alone; one pool that came back whole is kept to be lent again."""
    pool = back()
    if pool is None or pool._max_workers != count:
        dismiss(pool)
        pool = ThreadPoolExecutor(count, "attention", initializer=setattr, initargs=(here, "busy", True))
    try:
        here.busy = True
        yield pool
    except BaseException:
        dismiss(pool)
        raise
    finally:
        here.busy = False
    idle.append(pool)
    while len(idle) > 1:
        dismiss(back())


def back():
    """The pool that waits for the next call, or None."""
    try:
        return idle.pop()
    except IndexError:
        return None


def dismiss(pool):
    if pool is not None:
        pool.shutdown()


def busy():
    """Is this thread at work on the tasks of a call, so that a call within them is to do without help?"""
    return getattr(here, "busy", False)
