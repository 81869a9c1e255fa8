"""Adam and the clipping of gradients, by hand."""

import numpy as np


class Adam:
    """Adam: a step for every weight, in units of how large its gradient usually is.

    m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g²,  w ← w − rate · m̂ / (√v̂ + ε), where m̂ and v̂ make up for the zeros
    that m and v begin with. Before that, w shrinks by rate · decay of itself (AdamW): what no gradient holds up fades.
    """

    def __init__(self, weights, rate=0.01, decay=0.0, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
        self.rate, self.decay, self.beta_1, self.beta_2, self.epsilon = rate, decay, beta_1, beta_2, epsilon
        self.steps = 0
        self.m = {name: np.zeros_like(w) for name, w in weights.items()}
        self.v = {name: np.zeros_like(w) for name, w in weights.items()}

    def step(self, weights, grads):
        """Change the weights in place."""
        self.steps += 1
        for name, w in weights.items():
            g, m, v = grads[name], self.m[name], self.v[name]
            m += (1 - self.beta_1) * (g - m)
            v += (1 - self.beta_2) * (g * g - v)
            m_hat = m / (1 - self.beta_1**self.steps)
            v_hat = v / (1 - self.beta_2**self.steps)
            w *= 1 - self.rate * self.decay
            w -= self.rate * m_hat / (np.sqrt(v_hat) + self.epsilon)


def clip(grads, largest):
    """The gradients, shortened together so that their common length is at most `largest`; and the length they had."""
    length = float(np.sqrt(sum(np.sum(g * g) for g in grads.values())))
    shrink = min(1.0, largest / length) if length > 0 else 1.0
    return {name: g * shrink for name, g in grads.items()}, length
