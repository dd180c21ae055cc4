"""Patients that may be one by their pictures: joined to groups that no split parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from outerfold.storage.errors import Question
from outerfold.storage.records import IntArray, StrArray

MOST_IN_A_CHAIN = 5
"""Patients that are joined without a question; longer chains are rather a fault of the search."""


def join_groups(groups: StrArray, pairs: Sequence[tuple[int, int]]) -> StrArray:
    """Groups (n,) in which the two rows of each pair are together.

    A group has the first of the joined names in alphabetical order.

    Args:
        groups: (n,) name of the group of each row.
        pairs: positions of two rows that may show one patient.
    """
    names, at = np.unique(groups, return_inverse=True)
    first = first_of_joined(len(names), [(int(at[one]), int(at[two])) for one, two in pairs])
    return np.asarray(names[first[at]], dtype=np.str_)


def find_joined(patients: StrArray, before: StrArray, after: StrArray) -> list[list[str]]:
    """Names of the patients of each group that ``join_groups`` made of several.

    Args:
        patients: (n,) patients.
        before: (n,) groups before.
        after: (n,) groups after.
    """
    members: dict[str, set[str]] = defaultdict(set)
    formers: dict[str, set[str]] = defaultdict(set)
    for patient, former, now in zip(
        patients.tolist(), before.tolist(), after.tolist(), strict=True
    ):
        members[now].add(patient)
        formers[now].add(former)
    return [sorted(members[name]) for name in sorted(members) if len(formers[name]) > 1]


NEAR_IDENTICAL = (
    "have near-identical images, each of another; look at them: remove copies or correct the names"
)


def long_chain_question(
    joined: Sequence[Sequence[str]], why: str = NEAR_IDENTICAL
) -> Question | None:
    """Question about the first group of too many patients; None where there is none.

    Args:
        joined: groups of names of patients.
        why: what makes them one patient, and what to do if they are not.
    """
    long = [names for names in joined if len(names) > MOST_IN_A_CHAIN]
    if not long:
        return None
    return Question(
        f"patients {list(long[0][:6])} ({len(long[0])} names) {why}, or add --distinct-patients if "
        "they are different"
    )


def first_of_joined(count: int, pairs: Iterable[tuple[int, int]]) -> IntArray:
    """First member (count,) of the group of each of ``count`` members that pairs join.

    Args:
        count: number of members.
        pairs: positions of two members that belong together.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    one, two = np.array(list(pairs), dtype=np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(one)), (one, two)), shape=(count, count))
    label = connected_components(graph, directed=False)[1]
    first = np.unique(label, return_index=True)[1]
    return np.asarray(first[label], dtype=np.int64)
