"""Run the tasks of a problem by an executor and add up what they give, in their own order whoever is first."""

from collections import deque
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import suppress
from threading import Event, Lock

import numpy as np

from attention_ref.op.progress import Progress
from attention_ref.pipeline.tiled import threads
from attention_ref.pipeline.tiled.blas import cores, one_thread, one_thread_possible
from attention_ref.pipeline.tiled.shared_memory import Shared


class WorkerLost(RuntimeError):
    """A worker of the executor died before it gave its part of the result."""


def run(work, problem, executor, take):
    """take(task, work(cell, queries, stop)) for every task of the problem, in order."""
    workers = 1 if len(problem.tasks) < 2 else worker_count(executor)
    if workers == 1 and executor is None:
        alone(work, problem, take)
    elif executor is None:
        with one_thread(), threads.lent(workers - 1) as helpers:
            together(work, problem, helpers, min(workers, len(problem.tasks)) - 1, take)
    elif isinstance(executor, ThreadPoolExecutor):
        with one_thread():
            collect(Threads(work, problem, executor), problem, workers, take)
    elif isinstance(executor, ProcessPoolExecutor):
        problem = problem.contiguous()
        with Shared(work, problem, executor) as shared:
            collect(shared, problem, workers, take)
    else:
        problem = problem.contiguous()
        collect(Elsewhere(work, problem, executor), problem, workers, take)


def worker_count(executor):
    """How many tasks run at once; an executor that does not say gets enough to keep a cluster busy."""
    if executor is None:
        return cores() if one_thread_possible() and not threads.busy() else 1
    return getattr(executor, "_max_workers", None) or 16


def alone(work, problem, take):
    never, progress = Event(), Progress(len(problem.tasks))
    with progress:
        for task in problem.tasks:
            take(task, quiet(work, problem.cell(task), task.rows, never))
            progress.step()


def together(work, problem, pool, helpers, take):
    """This thread and the helpers draw one task after the other; a result is taken by whoever completes its turn."""
    todo, waiting, done, stop = deque(problem.tasks), deque(problem.tasks), {}, Event()
    progress, turn = Progress(len(problem.tasks)), Lock()

    def draw():
        for task in drawn(todo):
            try:
                done[task.number] = quiet(work, problem.cell(task), task.rows, stop)
            except BaseException:
                todo.clear()
                raise
            with turn, np.errstate(all="ignore"):
                while waiting and waiting[0].number in done:
                    first = waiting.popleft()
                    take(first, done.pop(first.number))
                    progress.step()

    try:
        futures = [pool.submit(draw) for _ in range(helpers)]
        with progress:
            draw()
            for future in futures:
                future.result()
    except BaseException:
        stop.set()
        raise


def drawn(todo):
    """The tasks that this thread gets, of those that several draw from."""
    with suppress(IndexError):
        while True:
            yield todo.popleft()


def collect(crew, problem, workers, take):
    """Keep every worker busy, with one more task waiting; results are taken in the order of the tasks."""
    waiting, progress = deque(), Progress(len(problem.tasks))

    def finish():
        task, future = waiting[0]
        try:
            crew.receive(future, lambda part: take(task, part))
        except BrokenExecutor as error:
            lost = f"{task} and {len(waiting) - 1} more tasks" if len(waiting) > 1 else str(task)
            raise WorkerLost(
                f"attention: a worker died, and with it the part of {lost}; nothing was returned"
            ) from error
        waiting.popleft()
        progress.step()

    try:
        with progress:
            for task in problem.tasks:
                waiting.append((task, crew.start(task)))
                if len(waiting) > workers:
                    finish()
            while waiting:
                finish()
    except BaseException:
        crew.stop()
        for _, future in waiting:
            future.cancel()
        wait([future for _, future in waiting if hasattr(future, "_condition")])
        raise


class Threads:
    """Tasks in the threads of this process, on the arrays themselves."""

    def __init__(self, work, problem, executor):
        self.work, self.problem, self.executor, self.stopped = work, problem, executor, Event()

    def start(self, task):
        return self.executor.submit(self.one, task)

    def one(self, task):
        return quiet(self.work, self.problem.cell(task), task.rows, self.stopped)

    def receive(self, future, take):
        take(future.result())

    def stop(self):
        self.stopped.set()


class Elsewhere(Threads):
    """Tasks by any other executor: each is sent its own part of the arrays."""

    def start(self, task):
        return self.executor.submit(far, self.work, self.problem.cell(task), task.rows)


def far(work, cell, rows):
    return quiet(work, cell, rows, Event())


def quiet(work, cell, rows, stop):
    """The work, as silent about inf and NaN as the caller: NumPy's error state does not reach other threads."""
    with np.errstate(all="ignore"):
        return work(cell, rows, stop)
