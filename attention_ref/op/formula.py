"""Formulas for the terminal: the small part of LaTeX that the ops use, in Unicode."""

import re

GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "kappa": "κ", "lambda": "λ", "sigma": "σ", "tau": "τ", "ell": "ℓ"}
SIGNS = {"cdot": "·", "circ": "∘", "odot": "⊙", "times": "×", "sum": "Σ", "infty": "∞", "leftarrow": "←", "to": "→"}
SIGNS |= {"le": "≤", "ge": "≥", "ne": "≠", "in": "∈", "top": "ᵀ", "sqrt": "√", "|": "‖", "mid": "|"}
SIGNS |= {"dots": "…", "ldots": "…"}
SPACES = {",": " ", ";": " ", " ": " ", "quad": " ", "qquad": " ", "left": "", "right": "", "big": "", "Big": ""}
NAMES = {name: name for name in ("exp", "log", "tanh", "max", "min", "cos", "sin")}
WORDS = {name: "" for name in ("mathrm", "mathbf", "mathit", "text", "operatorname")}
COMMANDS = GREEK | SIGNS | SPACES | NAMES | WORDS
BRACES = r"([_^√]?)\{([^{}]*)\}"


def readable(latex):
    """The formula in Unicode, or the LaTeX as it is where it uses a command that is not known here."""
    text = re.sub(r"\\([A-Za-z]+|.)", lambda found: COMMANDS.get(found[1], found[0]), latex)
    if "\\" in text:
        return latex
    text = re.sub(r"√\s+", "√", text).replace("^ᵀ", "ᵀ").replace("^{ᵀ}", "ᵀ")
    while re.search(BRACES, text):
        text = re.sub(BRACES, ungroup, text)
    return " ".join(text.split())


def ungroup(found):
    """Braces go where nothing can be misread, and become parentheses under a root, an exponent or an index."""
    before, inner = found.groups()
    one = r"[^\W_]+" if before == "_" else r"\w|\([^()]*\)"
    return before + (inner if not before or re.fullmatch(one, inner) else f"({inner})")
