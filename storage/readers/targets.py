"""Choice and order of the classes, and the target of each task."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from outerfold.storage import tasks
from outerfold.storage.errors import Question, suggest_name
from outerfold.storage.names import normalise
from outerfold.storage.records import DataError
from outerfold.storage.words.class_names import CLINICAL_ORDER, is_disease, positive_of_two
from outerfold.storage.words.texts import spelling_key

Task = Literal["dbt", "multimodal"]
OTHER = "other"


def class_order(labels: Sequence[str]) -> tuple[str, ...]:
    """Names of the classes in ``labels``, by clinical severity if all are known, else sorted."""
    names = sorted(set(labels))
    if all(name.lower() in CLINICAL_ORDER for name in names):
        names.sort(key=lambda name: CLINICAL_ORDER[name.lower()])
    return tuple(names)


def _match_class(name: str, known: Sequence[str], option: str) -> str:
    exact = [k for k in known if k == name]
    exact = exact or [k for k in known if spelling_key(k) == spelling_key(name)]
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
    labels: tuple[str, ...],
    names: tuple[str, ...],
    task: tasks.Task,
    positive: str | None,
    column: str = "",
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Labels of the n rows, class names and assumptions for a task.

    A task without a positive class keeps every class; of two classes the last is the positive one.
    Another one, such as ``multimodal``, merges all classes but the positive one into ``OTHER``,
    which is class 0.

    Args:
        labels: n class names.
        names: class names, in order.
        task: record of the task.
        positive: positive class; None takes the one that the names show.
        column: name of the column of labels; empty for class folders.

    Raises:
        DataError: it is not clear which class is positive, or ``positive`` has no effect.
    """
    if not task.positive:
        return labels, *_order_two(names, positive, column, task.name)
    hit = _find_positive(names, positive, column, task.name)
    counts = Counter(label for label in labels if label != hit)
    lost = [name for name in counts if is_disease(name)] if is_disease(hit) else []
    if lost:
        raise DataError(
            f"classes {[hit, *lost][:3]} are cancer by their names, and {hit!r} against the rest "
            f"would count {sum(counts[name] for name in lost)} images of {lost[0]!r} as no cancer; "
            "give them one name, or leave one out with --classes"
        )
    merged = ", ".join(f"{name} ({counts[name]} images)" for name in names if name != hit)
    notes = (f"positive class {hit!r}; {merged} merged into {OTHER!r}",)
    return tuple(hit if label == hit else OTHER for label in labels), (OTHER, hit), notes


def _order_two(
    names: tuple[str, ...], positive: str | None, column: str, task: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Class names with the positive one of two last, and the sentence that names it."""
    if len(names) != 2:
        if positive is not None:
            raise DataError(
                f"--positive has no effect with {len(names)} classes, which the {task} task keeps "
                "apart; leave it out, or choose two with --classes"
            )
        return names, ()
    if positive is not None:
        hit = _match_class(positive, names, "--positive")
    else:
        hit = positive_of_two(names, normalise(column)) or ""
    if not hit:
        raise Question(_ask_positive(names))
    ordered = tuple(sorted(names, key=lambda name: name == hit))
    return ordered, (f"positive class {hit!r}, against {ordered[0]!r}",)


def _ask_positive(names: Sequence[str]) -> str:
    return (
        f"classes {list(names)}: their names do not say which one is positive, the one that "
        f"sensitivity is about; add {_choices(names)}"
    )


def _choices(names: Sequence[str]) -> str:
    return " or ".join(f"--positive {shlex.quote(name)}" for name in names[:4])


def _find_positive(names: tuple[str, ...], positive: str | None, column: str, task: str) -> str:
    if positive is not None:
        return _match_class(positive, names, "--positive")
    hits = [name for name in names if is_disease(name)]
    if len(hits) == 1:
        return hits[0]
    two = positive_of_two(names, normalise(column)) if len(names) == 2 else None
    if two is not None:
        return two
    raise Question(
        f"the {task} task needs one positive class called cancer or malignant, found "
        f"{hits or 'none'} among {list(names)}; name it with {_choices(hits or names)}"
    )
