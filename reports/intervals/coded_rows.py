"""Predictions with integer codes for names, checked before intervals are computed."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from outerfold.storage.records import (
    DataError,
    FloatArray,
    IntArray,
    LeakError,
    Predictions,
    StrArray,
)


@dataclass(frozen=True, eq=False)
class CodedRows:
    """Predictions with integer codes for names.

    Attributes:
        patient, image: (n,) codes of patients and of images; an image occurs once per repeat.
        fold: (n,) code of the pair (repeat, fold), sorted by repeat and then by fold.
        repeat: (n,) code of the repeat.
        fold_names: (folds,) name of each fold code.
        fold_repeat: (folds,) repeat code of each fold code.
        patients, repeats: number of patients and of repeats.
        labels, predicted: (n,) class indices.
        probabilities: (n, classes).
    """

    patient: IntArray
    image: IntArray
    fold: IntArray
    repeat: IntArray
    fold_names: tuple[str, ...]
    fold_repeat: IntArray
    patients: int
    repeats: int
    labels: IntArray
    probabilities: FloatArray
    predicted: IntArray
    classes: tuple[str, ...]

    @property
    def two(self) -> bool:
        """Whether there are two classes; class 1 is then the positive one."""
        return len(self.classes) == 2


def code_rows(predictions: Predictions, *, grouped: bool = True) -> CodedRows:
    """Code names as integers, after a check that the rows allow intervals over patients.

    Args:
        grouped: refuse a patient in two folds of one repeat; False only to show a leak's effect.

    Raises:
        DataError: no rows, or an image twice in one repeat.
        LeakError: a patient in two folds of one repeat.
    """
    if not len(predictions):
        raise DataError("intervals need predictions, but there is no row")
    names, patient = np.unique(predictions.groups, return_inverse=True)
    images, image = np.unique(predictions.ids, return_inverse=True)
    repeats, repeat = np.unique(predictions.repeat, return_inverse=True)
    _check_unique_images(images, image, repeat)
    keys = sorted(
        set(zip(repeat.tolist(), predictions.fold.tolist(), strict=True)), key=_natural_key
    )
    code = {key: i for i, key in enumerate(keys)}
    pairs = zip(repeat.tolist(), predictions.fold.tolist(), strict=True)
    fold = np.array([code[pair] for pair in pairs], dtype=np.int64)
    if grouped:
        _check_grouping(names, patient, repeat, fold)
    return CodedRows(
        patient.astype(np.int64),
        image.astype(np.int64),
        fold,
        repeat.astype(np.int64),
        tuple(name for _, name in keys),
        np.array([r for r, _ in keys], dtype=np.int64),
        len(names),
        len(repeats),
        predictions.labels.astype(np.int64),
        predictions.probabilities.astype(np.float64),
        predictions.predicted.astype(np.int64),
        predictions.classes,
    )


def _natural_key(key: tuple[int, str]) -> tuple[int, list[tuple[int, str]]]:
    parts = re.findall(r"\d+|\D+", key[1])
    return key[0], [(int(p), "") if p.isdigit() else (-1, p) for p in parts]


def _check_unique_images(images: StrArray, image: IntArray, repeat: IntArray) -> None:
    seen, counts = np.unique(image * (repeat.max() + 1) + repeat, return_counts=True)
    twice = [str(name) for name in images[seen[counts > 1] // (repeat.max() + 1)]]
    if twice:
        raise DataError(
            f"an image may occur once per repeat: {twice[:3]} occur twice ({len(twice)} in all)"
        )


def _check_grouping(names: StrArray, patient: IntArray, repeat: IntArray, fold: IntArray) -> None:
    places = np.unique(np.stack([patient, repeat, fold]), axis=1)
    same = np.all(places[:2, 1:] == places[:2, :-1], axis=0)
    split = sorted({str(names[p]) for p in places[0, 1:][same]})
    if split:
        raise LeakError(
            f"patients {split[:3]} are tested in two folds of one repeat ({len(split)} in all); "
            f"no interval can correct this: make the folds by patient"
        )
