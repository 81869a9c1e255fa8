"""The pipeline: score → ×scale → keep only the allowed → normalize → Σ_j α_ij v_j, forward and backward."""

import numpy as np

from attention_ref import normalize as normalizers
from attention_ref import score as scores
from attention_ref.adjust import scale as scale_stage
from attention_ref.arrays import shown
from attention_ref.errors import OptionError
from attention_ref.layer import logsumexp, weighted_sum
from attention_ref.mask import keep
from attention_ref.op import Op, did_you_mean, is_op, modules
from attention_ref.signature import Signature

STAGES = ("scaled", "masked")
OPTIONAL = ("allowed?:bool(... i j)", "scale?(... i j)")


class Attended:
    """What attention returns: `o`, the weights `alpha`, `lse` (None where it has no meaning) and the `tape`.

    The tape holds the score matrix after every stage that was applied: score, scaled, masked, alpha.
    """

    def __init__(self, rule, value, tape):
        self.rule, self.tape = rule, tape
        self.o, self.alpha, self.lse = (*value, None)[:3]

    def __repr__(self):
        return f"<Attended by {self.rule.name}: o {self.o.shape}, alpha {self.alpha.shape}>"

    def backward(self, do=None, dlse=None, dalpha=None):
        """The gradient of every floating-point input, by name; None stands for a zero cotangent."""
        return self.rule.backward((do, dalpha, dlse), **self.tape)


class Rule(Op):
    """An attention rule: an op whose results are o, alpha and lse."""

    def __init__(self, name, module):
        super().__init__(name, Pipeline(module))

    def cotangents(self, dvalue, given):
        """As for any op, but alpha's and lse's None stays None, so that the pipeline leaves out what nobody asked."""
        do, *rest = super().cotangents(dvalue, given)
        return do, *(None if asked is None else d for d, asked in zip(rest, dvalue[1:], strict=True))


class Pipeline:
    """The module behind a rule: one score op, one normalizer and the stages between them."""

    VARIANTS = ({}, {"include": ("allowed",)}, {"include": ("allowed", "scale")})

    def __init__(self, module):
        self.score = module if is_op(module) else getattr(scores, module.SCORE)
        self.own_scale = getattr(module, "scale", None)
        self.own_normalize = getattr(module, "NORMALIZE", "softmax")
        self.FORMULA, self.SOURCE = module.FORMULA, module.SOURCE
        self.SLIP = getattr(module, "SLIP", "")
        self.__doc__ = module.__doc__
        q, k, *parameters = Signature(self.score.SIGNATURE).arguments
        inputs = [q, k, "v[... j e]", *parameters, *OPTIONAL]
        self.SIGNATURE = f"{' '.join(map(str, inputs))} -> o[... i e] alpha[... i j] lse[... i]"

    def definition(self, xp, q, k, v, *, allowed=None, scale=None, normalize=None, **parameters):
        s = self.score.definition(xp, q, k, **parameters)
        s = s * self.factor(q, scale)
        if allowed is not None:
            s = keep.definition(xp, s, allowed)
        normalizer = self.normalizer(normalize)
        alpha = normalizer.definition(xp, s)
        lse = logsumexp.definition(xp, s) if hasattr(normalizer, "LSE") else None
        return weighted_sum.definition(xp, alpha, v, allowed), alpha, lse

    def forward(self, q, k, v, *, allowed=None, scale=None, normalize=None, **parameters):
        normalizer = self.normalizer(normalize)
        s, tape, steps = self.scored(q, k, allowed, parameters)
        for name, module, given in self.stages(q, scale, allowed):
            s, taped = module.forward(s, **given)
            tape[name], steps[name] = s, (module, taped)
        alpha, taped = normalizer.forward(s)
        tape["alpha"], steps["alpha"] = alpha, (normalizer, taped)
        o, taped = weighted_sum.forward(alpha, v, allowed)
        steps["o"] = weighted_sum, taped
        lse = None
        if hasattr(normalizer, "LSE"):
            lse, taped = logsumexp.forward(s)
            steps["lse"] = logsumexp, taped
        return (o, alpha, lse), tape | {"steps": steps}

    def backward(self, cotangents, *, steps, **shown):
        do, dalpha, dlse = cotangents

        def pull(name, cotangent):
            module, taped = steps[name]
            return module.backward(cotangent, **taped)

        grads = pull("o", do)
        through_o = grads.pop("alpha")
        grads |= pull("alpha", through_o if dalpha is None else through_o + dalpha)
        ds = grads.pop("s")
        if dlse is not None and "lse" not in steps:
            raise OptionError("dlse was given, and this normalizer has no lse")
        if dlse is not None:
            ds = ds + pull("lse", dlse)["s"]
        for name in reversed([name for name in steps if name in STAGES]):
            grads |= pull(name, ds)
            ds = grads.pop("s")
        return grads | pull("score", ds)

    def stages(self, q, scale, allowed):
        """(name, module, arguments) of every stage between score and normalizer that applies, in order."""
        if scale is not None or self.own_scale:
            yield "scaled", scale_stage, {"scale": self.factor(q, scale)}
        if allowed is not None:
            yield "masked", keep, {"allowed": allowed}

    def factor(self, q, scale):
        if scale is not None:
            return scale
        return self.own_scale(q) if self.own_scale else 1

    def normalizer(self, name):
        name = self.own_normalize if name is None else name
        if f"normalize.{name}" not in normalizers.ops:
            known = [op.rpartition(".")[2] for op in normalizers.ops]
            raise OptionError(f"there is no normalizer {shown(name)}{did_you_mean(name, known)}")
        return normalizers.ops[f"normalize.{name}"].module

    def scored(self, q, k, allowed, parameters):
        """(the scores that go on, the tape, the steps); what is masked goes on, and comes back, as a finite number."""
        s, taped = self.score.forward(q, k, **parameters)
        tape = {"score": s}
        if allowed is not None and not np.isfinite(s).all():
            _, taped = self.score.forward(finite(q), finite(k), **parameters)
            s = np.where(allowed | np.isfinite(s), s, 0).astype(s.dtype, copy=False)
        return s, tape, {"score": (self.score, taped)}


def finite(x):
    return np.where(np.isfinite(x), x, 0).astype(x.dtype, copy=False)


def rules_in(package, path):
    """The rules of a room of scores, sorted by where they are written: the documents' first, in their order."""
    found = [Rule(name, m) for name, m in modules(package, path).items() if is_op(m) or hasattr(m, "SCORE")]
    return {rule.name: rule for rule in sorted(found, key=lambda rule: rule.source)}


rules = rules_in(scores.__name__, scores.__path__)


def attention(q, k, v, rule="scaled_dot", *, allowed=None, scale=None, normalize=None, **params):
    """Attention by a rule's name (or a `Rule`), with the rule's parameters by name."""
    rule = find(rule)
    options = {"allowed": allowed, "scale": scale, "normalize": normalize}
    value, tape = rule.forward(q=q, k=k, v=v, **options, **params)
    return Attended(rule, value, tape)


def find(rule):
    if isinstance(rule, Rule):
        return rule
    if not isinstance(rule, str) or rule not in rules:
        raise OptionError(f"there is no rule {shown(rule)}{did_you_mean(rule, rules)}")
    return rules[rule]
