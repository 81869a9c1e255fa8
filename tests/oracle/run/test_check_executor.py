"""Cases spread over an executor: the same report, whoever runs them; and the progress bar."""

import io
import os
import sys
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

import attention_ref as ar
from attention_ref.op import progress
from attention_ref.oracle.diagnose.faults import heads, masks
from attention_ref.oracle.power import power

CASES = "causal,gqa,values-peaked,mask-dead-rows,shape-35x35"


def right(q, k, v, **options):
    a = ar.attention(q, k, v, **options)
    return a.o, a.lse


def back(do, q, k, v, o, lse, dlse=None, **options):
    return ar.attention(q, k, v, **options).backward(do, dlse=dlse)


def wrong_when_causal(q, k, v, causal=False, allowed=None):
    return right(q, k, v, allowed=allowed)[0]


def dies(q, k, v, causal=False, allowed=None):
    if causal:
        os._exit(3)
    return right(q, k, v, allowed=allowed)


def as_data(report):
    data = report.to_dict()
    for timed in (data, *data["runs"]):
        timed.pop("seconds")
    return data


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield pool


def test_threads_give_the_same_report():
    with ThreadPoolExecutor(2) as pool:
        spread = ar.check(right, cases=CASES, backward=back, executor=pool)
    assert spread.passed
    assert as_data(spread) == as_data(ar.check(right, cases=CASES, backward=back))


def test_processes_give_the_same_report(processes):
    spread = ar.check(wrong_when_causal, cases=CASES, executor=processes)
    assert not spread.passed
    assert as_data(spread) == as_data(ar.check(wrong_when_causal, cases=CASES))
    assert spread.failures()[0].evidence["got"]["o"].dtype == np.float32


def test_a_lambda_cannot_go_to_another_process(processes):
    with pytest.raises(ar.OptionError, match="the candidate <lambda> cannot be sent to another process; define"):
        ar.check(lambda q, k, v: q, cases="causal", executor=processes)
    with pytest.raises(ar.OptionError, match="the backward <lambda> cannot be sent to another process"):
        ar.check(right, backward=lambda *args: {}, cases="causal", executor=processes)


def test_any_executor_will_do():
    class Now:
        def submit(self, function, *args):
            future = Future()
            future.set_result(function(*args))
            return future

    assert ar.check(right, cases=CASES, executor=Now()).passed


def test_a_process_that_dies_is_an_error_of_its_case():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        report = ar.check(dies, cases="causal,shape-35x35", executor=pool)
    assert report.runs[0].verdict == "error"
    assert "it ended its worker process" in report.runs[0].sentence
    assert len(report.runs) == 2


def test_a_bar_is_drawn_on_a_terminal_for_many_cases(monkeypatch):
    def nothing(q, k):
        return q

    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    report = ar.check(nothing, cases="full")
    drawn = terminal.getvalue().split("\r")
    assert f"1/{len(report.runs)} " in drawn[1]
    assert "█" * 32 in drawn[-2]
    assert drawn[-1] == "\x1b[K"
    terminal.truncate(0)
    ar.check(nothing, cases="causal")
    assert terminal.getvalue().strip("\0") == ""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    ar.check(nothing, cases="full")
    assert sys.stderr.getvalue() == ""


def test_a_bar_is_drawn_for_few_cases_that_take_long(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    ar.check(right, cases="causal,gqa")
    assert f"\r{'█' * 16}{'·' * 16} 1/2 causal" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


POWER = {"cases": "shape-17x17,causal,gqa", "faults": ["causal-ignored", "heads-interleaved", "rescale-missing-16"]}


def test_faults_spread_over_processes_come_to_the_same(processes):
    alone = power(**POWER)
    assert power(**POWER, executor=processes) == alone
    with ThreadPoolExecutor(2) as pool:
        assert power(**POWER, executor=pool) == alone


def test_a_bar_is_drawn_on_a_terminal_for_many_faults(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    power(**POWER)
    assert terminal.getvalue() == ""
    names = [mistake.name() for mistake in heads.CATALOG + masks.CATALOG]
    power(cases="shape-1x1", faults=names, diagnose=False)
    assert f"{'█' * 32} {len(names)}/{len(names)} " in terminal.getvalue().split("\r")[-2]
