"""Exact ROC-AUC and average precision of one set of rows without each patient.

Both functions take positive (n,), scores (n,), patient (n,) with codes 0..patients-1, and the
number of patients. Both return the value of all rows, and the values (patients,) without each
patient; NaN where a class is then missing.
"""

from __future__ import annotations

import numpy as np

from outerfold.objectives.measures.metric import Numbers, ratio
from outerfold.storage.records import BoolArray, FloatArray, IntArray


def auc_without(
    positive: BoolArray, scores: FloatArray, patient: IntArray, patients: int
) -> tuple[float, FloatArray]:
    """ROC-AUC from Mann-Whitney pairs, without the pairs that contain an image of the patient.

    The pairs of a patient are the placements of its images (Hanley & Hajian-Tilaki 1997), minus
    the pairs between two of its own images, which were counted from both sides.
    """
    won = _placements(positive, scores, np.zeros_like(patient))
    within = np.where(positive, _placements(positive, scores, patient), 0.0)
    wins = won[positive].sum()
    own = np.bincount(patient, won - within, patients)
    up = np.bincount(patient, positive, patients)
    down = np.bincount(patient, ~positive, patients)
    left = ratio(wins - own, (up.sum() - up) * (down.sum() - down))
    return float(ratio(wins, up.sum() * down.sum())), left


def ap_without(
    positive: BoolArray, scores: FloatArray, patient: IntArray, patients: int
) -> tuple[float, FloatArray]:
    """Average precision, rebuilt between the ranks of the patient's images.

    If ``a`` images of the patient, ``t`` of them positive, rank at or above a threshold, the
    precision TP/N there becomes (TP - t)/(N - a). ``a`` and ``t`` are constant between two ranks
    of the patient, so a prefix sum for each ``a`` gives the sum over every such stretch.
    """
    order = np.argsort(-scores, kind="stable")
    tie = _tie_codes(scores[order])
    hits = np.bincount(tie, positive[order])  # (ties,) positives at each distinct score
    above, caught = np.cumsum(np.bincount(tie)), np.cumsum(hits)
    by = np.lexsort((tie, patient[order]))  # rows of a patient together, best rank first
    who, rank, up = patient[order][by], tie[by], positive[order][by]
    first = np.searchsorted(who, np.arange(patients))
    a = np.arange(len(by)) - first[who] + 1  # images of the patient down to and with this one
    t: IntArray = np.cumsum(up) - (np.cumsum(up) - up)[first][who]  # positives among them
    stretch = _stretches(who, rank, len(above))
    total = np.bincount(who, _sum_stretches(stretch, a, t, hits, above, caught), patients)
    best = _prefix_sum(hits * caught, above)[rank[first]]  # above the patient's best image
    # The sums so far also count the patient's own positives, which must not count.
    own = np.bincount(who, _own_terms(who, rank, up, a, t, above, caught), patients)
    left = ratio(total + best - own, caught[-1] - np.bincount(who, up, patients))
    return float(ratio(np.sum(hits * caught / above), caught[-1])), left


def _placements(positive: BoolArray, scores: FloatArray, group: IntArray) -> FloatArray:
    """Placement (n,) of each image: correctly ordered pairs with opposite images of its group.

    A tie counts one half.
    """
    order = np.lexsort((scores, group))
    tie = _tie_codes(scores[order], group[order])
    up = positive[order].astype(np.float64)
    starts = np.searchsorted(group[order], np.arange(group.max() + 1))

    def lower(weight: FloatArray) -> FloatArray:
        tied = np.bincount(tie, weight)
        before = np.cumsum(weight) - weight
        return (np.cumsum(tied) - tied / 2)[tie] - before[starts][group[order]]

    higher = np.bincount(group[order], up)[group[order]] - lower(up)
    won = np.empty(len(order))
    won[order] = np.where(positive[order], lower(1 - up), higher)
    return won


def _tie_codes(*keys: FloatArray | IntArray) -> IntArray:
    """Code (n,) that increases by one wherever a key changes; the rows are sorted by the keys."""
    new = np.zeros(len(keys[0]), dtype=np.int64)
    for key in keys:
        new[1:] |= key[1:] != key[:-1]
    return np.cumsum(new)


def _stretches(who: IntArray, rank: IntArray, ties: int) -> IntArray:
    """Stretches (2, n): tie of each image, and of the patient's next image (or the end)."""
    end = np.full(len(who), ties, dtype=np.int64)
    same = who[1:] == who[:-1]
    end[:-1][same] = rank[1:][same]
    return np.stack([rank, end])


def _sum_stretches(
    stretch: IntArray, a: IntArray, t: IntArray, hits: IntArray, above: IntArray, caught: IntArray
) -> FloatArray:
    """Sum (n,) of hits (TP - t)/(N - a) over the ties of each image's stretch."""
    found = np.zeros(len(a))
    for images in range(1, int(a.max()) + 1):
        at = np.flatnonzero(a == images)
        start, end = stretch[:, at]
        whole, plain = _prefix_sum(hits * caught, above - images), _prefix_sum(hits, above - images)
        found[at] = whole[end] - whole[start] - t[at] * (plain[end] - plain[start])
    return found


def _own_terms(
    who: IntArray,
    rank: IntArray,
    up: BoolArray,
    a: IntArray,
    t: IntArray,
    above: IntArray,
    caught: IntArray,
) -> FloatArray:
    """Term (n,) that each of the patient's own positive images added to its stretch."""
    tie = _tie_codes(who, rank)
    last = np.searchsorted(tie, tie, side="right") - 1
    return np.where(up, ratio(caught[rank] - t[last], above[rank] - a[last], empty=0.0), 0.0)


def _prefix_sum(part: Numbers, whole: IntArray) -> FloatArray:
    """Prefix sum (ties + 1,) of part/whole, beginning at 0; a tie with whole <= 0 adds 0.

    Such a tie contains only images of the patient.
    """
    return np.concatenate([[0.0], np.cumsum(ratio(part, whole, empty=0.0))])
