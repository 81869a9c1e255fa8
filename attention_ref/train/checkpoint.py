"""A training that can be stopped and taken up again: everything it needs, in one .npz file without pickles."""

import json
import os
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from attention_ref.errors import OptionError

GROUPS = ("weights", "m", "v")


def save(path, plan, history, weights, adam):
    """Write the file in one go: what was there stays until the new one is complete."""
    groups = dict(zip(GROUPS, (weights, adam.m, adam.v), strict=True))
    arrays = {f"{group}.{name}": x for group, found in groups.items() for name, x in found.items()}
    path = Path(path)
    beside = path.with_name(path.name + ".part")
    with open(beside, "wb") as file:
        np.savez(file, plan=json.dumps(plan), history=json.dumps(history), steps=adam.steps, **arrays)
    os.replace(beside, path)


def load(path, plan, weights, adam):
    """Put the file's numbers into weights and adam; (the history so far)."""
    try:
        with np.load(path, allow_pickle=False) as file:
            held = dict(file)
        found = json.loads(str(held["plan"]))
    except (ValueError, KeyError, EOFError, BadZipFile):
        raise OptionError(f"{Path(path).name} is no checkpoint of `attention-ref train`") from None
    for name, value in plan.items():
        if found.get(name) != value:
            raise OptionError(
                f"{Path(path).name} was written with {name} = {found.get(name)!r}, this training has {value!r}; "
                f"give the same, or another file"
            )
    for group, into in zip(GROUPS, (weights, adam.m, adam.v), strict=True):
        for name, x in into.items():
            x[...] = held[f"{group}.{name}"]
    adam.steps = int(held["steps"])
    return json.loads(str(held["history"]))
