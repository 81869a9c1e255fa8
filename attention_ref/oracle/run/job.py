"""What one run needs, and what comes of it."""

from dataclasses import dataclass, field
from typing import Any

from attention_ref.oracle.cases.case import Case, Size
from attention_ref.oracle.run.compare import Comparison
from attention_ref.oracle.run.trouble import Trouble, TroubleKind


@dataclass(frozen=True)
class Job:
    """All that one run needs; it can be sent to another process."""

    case: Case
    dtype: str
    model: str
    rule: Any
    candidate: Any
    backward: Any = None
    seed: int = 0
    timeout: float | None = None
    sample: int | None = None


@dataclass
class CaseRun:
    """What came of one case in one dtype."""

    case: str
    why: str
    flags: tuple[str, ...]
    size: Size
    dtype: str
    model: str
    verdict: str
    trouble: Trouble | None = None
    results: list[Comparison] = field(default_factory=list)
    seconds: float = 0.0
    broken_stage: Trouble | None = None
    evidence: dict | None = field(default=None, repr=False)
    sample: dict | None = None

    @property
    def sentence(self) -> str:
        """What is wrong, "" where nothing is."""
        return self.trouble.sentence if self.trouble else ""

    @property
    def stage(self) -> str:
        return self.broken_stage.sentence if self.broken_stage else ""

    @property
    def lacking(self) -> tuple[str, ...]:
        """The options of the case that the candidate does not declare."""
        if self.trouble and self.trouble.kind is TroubleKind.NOT_DECLARED:
            return self.trouble.facts["options"]
        return ()


def run_of(job: Job, verdict: str, trouble: Trouble | None = None, results: list[Comparison] | None = None) -> CaseRun:
    """The CaseRun of a job."""
    case = job.case
    return CaseRun(
        case.name, case.why, case.flags, case.size, job.dtype, job.model, verdict, trouble, list(results or ())
    )
