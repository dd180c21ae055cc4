"""Choice and order of the classes, and the target of each task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from outerfold.storage.errors import suggest_name
from outerfold.storage.records import DataError

Task = Literal["dbt", "multimodal"]
CLINICAL_ORDER = {"normal": 0, "actionable": 1, "benign": 2, "cancer": 3, "malignant": 3}
POSITIVE_NAMES = ("cancer", "malignant")
OTHER = "other"


def class_order(labels: Sequence[str]) -> tuple[str, ...]:
    """Names of the classes in ``labels``, by clinical severity if all are known, else sorted."""
    names = sorted(set(labels))
    if all(name.lower() in CLINICAL_ORDER for name in names):
        names.sort(key=lambda name: CLINICAL_ORDER[name.lower()])
    return tuple(names)


def _match_class(name: str, known: Sequence[str], option: str) -> str:
    exact = [k for k in known if k == name] or [k for k in known if k.lower() == name.lower()]
    if len(exact) != 1:
        raise DataError(
            f"{option}: class {name!r} is not in the data{suggest_name(name, known)}; "
            f"found classes {list(known)}"
        )
    return exact[0]


def wanted_classes(names: tuple[str, ...], classes: Sequence[str]) -> tuple[str, ...]:
    """Classes in ``names`` that ``classes`` requests, in the order of ``names``; all when empty.

    Raises:
        DataError: a class is not in the data, or fewer than two classes are left.
    """
    wanted = {_match_class(name, names, "--classes") for name in classes} or set(names)
    if len(wanted) < 2:
        raise DataError(
            f"at least two classes are needed, found {sorted(wanted)} of {list(names)}; "
            "add images of another class or widen --classes"
        )
    return tuple(name for name in names if name in wanted)


def target(
    labels: tuple[str, ...], names: tuple[str, ...], task: Task, positive: str | None
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Labels of the n rows, class names and assumptions for a task.

    ``dbt`` keeps every class; ``multimodal`` merges all classes but the positive one into
    ``OTHER``, which is class 0.

    Args:
        labels: n class names.
        names: class names, in order.
        task: name of the task.
        positive: positive class; None takes cancer or malignant.

    Raises:
        DataError: there is not exactly one positive class, or ``positive`` is given for ``dbt``.
    """
    if task == "dbt":
        if positive is not None:
            raise DataError("--positive has no effect with the dbt task, which keeps every class")
        return labels, names, ()
    hit = _find_positive(names, positive)
    counts = Counter(label for label in labels if label != hit)
    merged = ", ".join(f"{name} ({counts[name]} images)" for name in names if name != hit)
    notes = (f"positive class {hit!r}; {merged} merged into {OTHER!r}",)
    return tuple(hit if label == hit else OTHER for label in labels), (OTHER, hit), notes


def _find_positive(names: tuple[str, ...], positive: str | None) -> str:
    if positive is not None:
        return _match_class(positive, names, "--positive")
    hits = [name for name in names if name.lower() in POSITIVE_NAMES]
    if len(hits) != 1:
        raise DataError(
            f"the multimodal task needs one positive class called cancer or malignant, found "
            f"{hits or 'none'} among {list(names)}; name it with --positive"
        )
    return hits[0]
