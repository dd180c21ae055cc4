"""Predictions made from seeded numbers, for tests of intervals."""

import numpy as np

from outerfold.storage.records import Predictions

FIELDS = ("ids", "patients", "fold", "repeat", "labels", "probabilities", "predicted")


def make(
    patients=40, classes=2, folds=5, repeats=1, seed=0, levels=0, mixed=False, rarest=5, skill=1.5
):
    """Rows of patients of 1-4 images; ``mixed`` gives a patient images of several classes."""
    rng = np.random.default_rng(seed)
    label = np.concatenate(
        [
            np.repeat(np.arange(1, classes), rarest),
            rng.integers(0, classes, max(0, patients - rarest * (classes - 1))),
        ]
    )
    label[rarest * (classes - 1) :][label[rarest * (classes - 1) :] > 0] = 0
    who = np.repeat(np.arange(len(label)), rng.integers(1, 5, len(label)))
    labels = label[who]
    if mixed:
        labels = np.where(rng.random(len(who)) < 0.3, rng.integers(0, classes, len(who)), labels)
    parts = []
    for r in range(repeats):
        logits = skill * np.eye(classes)[labels] + rng.normal(size=(len(who), classes))
        if levels:
            logits = np.round(logits * levels) / levels
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        deal = rng.permutation(len(label)) % folds
        parts.append(
            Predictions(
                np.array([f"i{i:04d}" for i in range(len(who))]),
                np.array([f"P{w:03d}" for w in who]),
                np.array([f"outer-{r * folds + deal[w]}" for w in who]),
                np.full(len(who), r),
                labels,
                p,
                (p[:, 1] > 0.4).astype(int) if classes == 2 else p.argmax(1),
                tuple("abcd"[:classes]),
            )
        )
    return Predictions(
        *(np.concatenate([getattr(p, f) for p in parts]) for f in FIELDS), parts[0].classes
    )


def take(predictions, at):
    return predictions.take(at)
