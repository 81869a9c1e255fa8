"""The training loop: batches, gradients, clipping, Adam; the loss on both parts after every epoch."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attention_ref.op.progress import Progress
from attention_ref.train import checkpoint
from attention_ref.train.adam import Adam, clip
from attention_ref.train.batch import batches
from attention_ref.train.model import Model


@dataclass(frozen=True)
class Settings:
    """How a model is trained."""

    width: int = 48
    epochs: int = 20
    batch: int = 32
    rate: float = 0.015
    decay: float = 0.3
    clip: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """A model that has learned, and its losses per target token, one of each an epoch."""

    model: Model
    train: list[float]
    held_out: list[float]


def train(task, name, settings, path=None, stop=None):
    """Train the model `name` on a task, taking up the checkpoint at `path` if there is one; a Trained.

    The order of the pairs in an epoch depends on the seed and the epoch alone, so that a training taken up again ends
    with the same bits. `stop` ends it after so many epochs.
    """
    model = Model(
        name, len(task.source_words), len(task.target_words), width=settings.width, steps=task.steps, seed=settings.seed
    )
    adam = Adam(model.weights, settings.rate, settings.decay)
    plan = {"task": task.name, "model": name, **vars(settings)}
    history = []
    if path is not None and Path(path).exists():
        history = checkpoint.load(path, plan, model.weights, adam)
    last = settings.epochs if stop is None else min(stop, settings.epochs)
    with Progress(settings.epochs, patience=0, done=len(history)) as progress:
        for epoch in range(len(history), last):
            adam.rate = settings.rate * min(1.0, 2 * (1 - epoch / settings.epochs))
            history.append([one_epoch(task, model, adam, settings, epoch), model.loss(task.held_out)])
            if path is not None:
                checkpoint.save(path, plan, history, model.weights, adam)
            progress.step(f"{task.name}, {name}: held-out loss {history[-1][1]:.3f}")
    return Trained(model, *([row[part] for row in history] for part in (0, 1)))


def one_epoch(task, model, adam, settings, epoch):
    """Every training pair once; the mean loss per token on the way."""
    losses = []
    for pairs in batches(task.train, settings.batch, np.random.default_rng([settings.seed, epoch])):
        loss, grads = model.loss_and_grads(pairs)
        grads, _ = clip(grads, settings.clip)
        adam.step(model.weights, grads)
        losses.append(loss)
    return float(np.mean(losses))
