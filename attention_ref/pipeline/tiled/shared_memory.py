"""Arrays for worker processes through shared memory: one segment for the problem, one for each result on its way."""

import pickle
import sys
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from threading import Event

import numpy as np

ALIGNED = 64


def view(segment):
    assert segment.buf is not None
    return segment.buf


class Shared:
    """Tasks in worker processes; every segment belongs to this process, which removes it whatever happens."""

    def __init__(self, work, problem, executor):
        self.work, self.problem, self.executor = work, problem, executor
        self.slots, self.free = {}, []

    def __enter__(self):
        parts = []
        self.form = pickle.dumps((self.work, self.problem), protocol=5, buffer_callback=parts.append)
        parts = [part.raw() for part in parts]
        self.layout = laid_out([part.nbytes for part in parts])
        self.segment = SharedMemory(create=True, size=max(self.layout[-1][1] if self.layout else 0, 1))
        for part, (start, stop) in zip(parts, self.layout, strict=True):
            view(self.segment)[start:stop] = part
        return self

    def __exit__(self, *error):
        for segment in (self.segment, *self.slots.values()):
            segment.close()
            segment.unlink()

    def start(self, task):
        slot = self.free.pop() if self.free else self.new_slot()
        future = self.executor.submit(remote, self.segment.name, self.form, self.layout, task, slot)
        future.slot = slot
        return future

    def new_slot(self):
        size = max(self.problem.room(task) for task in self.problem.tasks)
        segment = SharedMemory(create=True, size=size)
        self.slots[segment.name] = segment
        return segment.name

    def receive(self, future, take):
        form, layout = future.result()
        buffer = self.slots[future.slot].buf
        take(pickle.loads(form, buffers=[buffer[start:stop] for start, stop in layout]))
        self.free.append(future.slot)

    def stop(self):
        pass


def remote(name, form, layout, task, slot):
    """In a worker: one task, from the segment of the problem into a slot."""
    segment, out = attached(name), attached(slot)
    try:
        return compute(form, [segment.buf[start:stop] for start, stop in layout], task, out.buf)
    finally:
        for each in (segment, out):
            with suppress(BufferError):
                each.close()


def compute(form, buffers, task, out):
    work, problem = pickle.loads(form, buffers=buffers)
    parts = []
    with np.errstate(all="ignore"):
        result = work(problem.cell(task), task.rows, Event())
    answer = pickle.dumps(result, protocol=5, buffer_callback=parts.append)
    parts = [part.raw() for part in parts]
    layout = laid_out([part.nbytes for part in parts])
    for part, (start, stop) in zip(parts, layout, strict=True):
        out[start:stop] = part
    return answer, layout


def laid_out(sizes):
    """[(start, stop)] of parts of these sizes one behind the other, each aligned."""
    spans, at = [], 0
    for size in sizes:
        spans.append((at, at + size))
        at += -(-size // ALIGNED) * ALIGNED
    return spans


def attached(name):
    """A segment of the process that made it, which alone keeps track of it."""
    if sys.version_info >= (3, 13):
        return SharedMemory(name, track=False)
    register, resource_tracker.register = resource_tracker.register, lambda *_: None
    try:
        return SharedMemory(name)
    finally:
        resource_tracker.register = register
