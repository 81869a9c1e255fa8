"""The report of a check: what passed, what did not, how far off, and how to see it again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attention_ref.oracle.report import text
from attention_ref.oracle.report.page import on_terminal
from attention_ref.oracle.run.job import CaseRun

VERDICTS = ("pass", "known", "fail", "error", "nondeterministic", "suspicious", "unsupported")
BAD = ("error", "fail")


class CheckFailed(AssertionError):
    """A candidate did not pass; the message is the report."""


@dataclass
class Report:
    """What `ar.check` returns; `str` of it is a page to read, `diagnosis` what is wrong, if that is known.

    >>> import attention_ref as ar
    >>> report = ar.check(lambda q, k, v: ar.attention(q, k, v).o, cases="shape-17x17")
    >>> report.passed, report.counts()["pass"], report.failures()
    (True, 1, [])
    """

    meta: dict[str, Any]
    runs: list[CaseRun]
    diagnosis: Any = None

    @property
    def passed(self) -> bool:
        """Nothing failed, nothing was nondeterministic (unless that was allowed), something was checked."""
        counts = self.counts()
        bad = counts["fail"] + counts["error"]
        if self.meta["deterministic"]:
            bad += counts["nondeterministic"]
        return not bad and any(c.verdict != "unsupported" for run in self.runs for c in run.results)

    def counts(self) -> dict[str, int]:
        """How many cases have each verdict."""
        return {verdict: sum(run.verdict == verdict for run in self.runs) for verdict in VERDICTS}

    def failures(self) -> list[CaseRun]:
        """The runs that failed, the furthest off first."""
        bad = BAD + ("nondeterministic",) * self.meta["deterministic"]
        return sorted((run for run in self.runs if run.verdict in bad), key=severity)

    def raise_for_failure(self) -> None:
        """CheckFailed, an AssertionError, if the candidate did not pass."""
        if not self.passed:
            raise CheckFailed(f"\n{self.text()}")

    def text(self, color: bool = False) -> str:
        """The page, with the colors of a terminal or without."""
        return text.page(self, color)

    def __str__(self) -> str:
        return self.text(color=on_terminal())

    def figure(
        self,
        case: str | None = None,
        *,
        results: Sequence[str] | None = None,
        tile: Any = None,
        figure: Any = None,
    ) -> Any:
        """(figure, axes): heatmaps of where the wrong results of a failing run are off, the worst run unless `case`.

        `tile` is the kernel's (rows, columns), drawn as a grid. `ar.plot.save` writes the figure.
        """
        from attention_ref.oracle.report.picture import draw

        return draw(self, case, results, tile, figure)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain numbers, strings, lists and dicts."""
        from attention_ref.oracle.report.export import to_dict

        return to_dict(self)

    def to_json(self, indent: int = 2) -> str:
        """All of it as JSON."""
        from attention_ref.oracle.report.export import to_json

        return to_json(self, indent)

    def to_junit(self) -> str:
        """The cases as JUnit XML, for a CI's page."""
        from attention_ref.oracle.report.export import to_junit

        return to_junit(self)


def severity(run: CaseRun) -> tuple:
    """Sort key: errors first, then by how far the worst element is off."""
    scores = [c.worst.score for c in run.results if c.worst is not None and c.verdict == "fail"]
    return run.verdict != "error", run.verdict != "fail", -max(scores, default=np.inf)
