"""The view of a case whole: the candidate is called twice, and every element of what it returns is compared."""

from attention_ref.oracle.bounds import number_formats
from attention_ref.oracle.cases.case import build
from attention_ref.oracle.run.localize import locate
from attention_ref.oracle.run.trouble import Trouble, TroubleKind
from attention_ref.oracle.run.truth import Truth, allowed_pairs


class Whole:
    """What `Runner` asks of a view; `Sample` answers the same."""

    calls = 2  # the second shows whether bits vary from run to run

    def __init__(self, job, rule):
        self.job, self.case, self.rule = job, job.case, rule
        self.inputs = self.new_inputs()

    @property
    def evidence_inputs(self):
        """The inputs that a diagnosis gets."""
        return self.inputs

    def new_inputs(self):
        """Inputs of their own for a call."""
        return build(self.case, self.rule, number_formats.find(self.job.dtype), self.job.seed)

    def refusal(self):
        """The Trouble for which the case cannot be run so; None if it can."""
        return None

    def truth(self, with_dlse):
        return Truth(self.rule, self.inputs, self.job.model, with_dlse)

    def before_backward(self, truth):
        """What is to be done before the candidate's backward is called."""

    def results_kept(self, results):
        """The results of the forward pass that are compared or that the backward needs."""
        return results

    def cut(self, results):
        """(the results as they are compared, {name: Trouble} of what is seen outside of that)."""
        return results, {}

    def place(self, result, wrong, truth):
        """Where the wrong elements are."""
        allowed = None
        if result in ("o", "dq"):
            allowed = allowed_pairs(self.case.size.queries, self.case.size.keys, truth.options)
        return locate(result, wrong, allowed)

    def index_in_whole(self, result, index):
        """The index in the whole result of an element of what was compared."""
        return index

    def no_bound(self, result, truth):
        return Trouble(TroubleKind.NO_BOUND, {"result": result})

    def no_gradient(self, result):
        return Trouble(TroubleKind.NO_GRADIENT, {"result": result})
