"""Pictures for the dashboard: a trial's learning curve, and the confusion matrix of inner rows."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial

from outerfold.storage.records import Predictions


def draw_curve(trial: FrozenTrial, metric: str) -> bytes:
    """PNG of the mean score over the inner folds by epoch, with each fold's where it was kept.

    Args:
        trial: an ended trial.
        metric: name of the metric.
    """
    fig = Figure(figsize=(5, 3.2), layout="constrained")
    axes = fig.subplots()
    for number, fold in enumerate(np.transpose(trial.user_attrs.get("curve", []))):
        axes.plot(range(1, len(fold) + 1), fold, color="#BBBBBB", lw=1, label=f"fold {number}")
    steps = sorted(trial.intermediate_values.items())
    axes.plot([at for at, _ in steps], [value for _, value in steps], color="#0072B2", marker=".")
    axes.set(title=f"Trial {trial.number}", xlabel="Epoch", ylabel=f"Inner {metric}, fold mean")
    return _encode(fig)


def draw_confusion(rows: Predictions) -> bytes:
    """PNG of the counts of true and predicted classes of inner out-of-fold rows."""
    size = len(rows.classes)
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, (rows.labels, rows.predicted), 1)
    fig = Figure(figsize=(1.8 + size, 1.4 + size), layout="constrained")
    axes = fig.subplots()
    axes.imshow(counts, cmap="Blues", vmin=0, vmax=2 * max(1, int(counts.max())))
    for true, predicted in np.ndindex(size, size):
        axes.text(predicted, true, f"{counts[true, predicted]:,}", ha="center", va="center")
    axes.set_xticks(range(size), rows.classes)
    axes.set_yticks(range(size), rows.classes)
    axes.set(title="Inner rows, optimistic", xlabel="Predicted", ylabel="True")
    return _encode(fig)


def _encode(fig: Figure) -> bytes:
    target = BytesIO()
    fig.savefig(target, format="png", dpi=120, metadata={"Software": None})
    return target.getvalue()
