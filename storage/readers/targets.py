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
NOT_OTHER = "the rest"
"""Class 0 where the positive class itself is called ``OTHER``."""


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
    which is class 0. Several positive classes, named with commas between them, become one.

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
        return labels, *order_two(names, positive, column, task.name)
    hits = _find_positive(names, positive, column, task.name)
    joined = ", ".join(hits)
    counts = Counter(label for label in labels if label not in hits)
    lost = [name for name in counts if is_disease(name)] if any(map(is_disease, hits)) else []
    if lost:
        raise DataError(
            f"classes {[*hits, *lost][:3]} are cancer by their names, and {joined!r} against the "
            f"rest would count {sum(counts[name] for name in lost)} images of {lost[0]!r} as no "
            f"cancer; add {_choices([','.join([*hits, *lost])])}, or leave one out with --classes"
        )
    if not counts:
        raise DataError(f"--positive {positive!r} names all classes; leave one out of it")
    merged = ", ".join(f"{name} ({counts[name]} images)" for name in names if name not in hits)
    rest = OTHER if joined != OTHER else NOT_OTHER
    notes = (f"positive class {joined!r}; {merged} merged into {rest!r}",)
    return tuple(joined if label in hits else rest for label in labels), (rest, joined), notes


def order_two(
    names: tuple[str, ...], positive: str | None, column: str, task: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Class names with the positive one of two last, and the sentence that names it.

    Args:
        names: the class names.
        positive: positive class; None takes the one that the names show.
        column: name of the column of labels; empty for class folders.
        task: name of the task, for the refusal of ``positive`` among several classes.

    Raises:
        DataError: ``positive`` is no class, or there are not two classes.
        Question: the names do not say which class is positive.
    """
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


def _find_positive(
    names: tuple[str, ...], positive: str | None, column: str, task: str
) -> tuple[str, ...]:
    if positive is not None:
        return match_positive(positive, names)
    hits = tuple(name for name in names if is_disease(name))
    if len(hits) == 1:
        return hits
    two = positive_of_two(names, normalise(column)) if len(names) == 2 else None
    if two is not None:
        return (two,)
    choices = _choices([",".join(hits)]) if 1 < len(hits) < len(names) else _choices(names)
    raise Question(
        f"the {task} task needs one positive class called cancer or malignant, found "
        f"{list(hits) or 'none'} among {list(names)}; name it with {choices}"
    )


def match_positive(positive: str, names: Sequence[str]) -> tuple[str, ...]:
    """Classes among ``names`` that ``positive`` names: one, or several with commas between them.

    Raises:
        DataError: a class is not in the data.
    """
    if any(spelling_key(name) == spelling_key(positive) for name in names):
        return (_match_class(positive, names, "--positive"),)
    parts = [part.strip() for part in positive.split(",") if part.strip()] or [positive]
    return tuple(dict.fromkeys(_match_class(part, names, "--positive") for part in parts))
