"""Where rows are cut: patients whole, every class in every fold, and nothing else has a say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from outerfold.storage.records import DataError, Dataset, Features, IntArray, LeakError, StrArray
from outerfold.storage.seeds import derive_seed
from outerfold.study import splits as module
from outerfold.study.splits import (
    Splits,
    _imbalance,
    _may_be_possible,
    divide_again,
    group_folds,
    partition,
    patients_by_class,
    split,
    split_flat,
)
from tests.factories import make_rows

TRIED = module.SEEDS_TRIED
FEW = settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module", autouse=True)
def _fewer_attempts() -> Iterator[None]:
    """Every promise holds for any number of attempts, and ten take a quarter of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SEEDS_TRIED", 10)
        yield


def table(labels_of: list[list[int]], classes: int) -> Dataset:
    """One patient a list, one image a label; rows in a mixed order."""
    labels = np.array([label for patient in labels_of for label in patient])
    patients = np.array([f"p{i:02d}" for i, patient in enumerate(labels_of) for _ in patient])
    order = np.random.default_rng(0).permutation(len(labels))
    ids = np.array([f"row-{i:03d}" for i in range(len(labels))])
    features = Features(ids, ids, np.zeros((len(ids), 0)))
    names = tuple(f"class-{c}" for c in range(classes))
    return Dataset(features, labels[order].astype(np.int64), patients[order], names, "f")


@st.composite
def tables(draw: st.DrawFn, each: int = 6) -> Dataset:
    """Two or three classes of ``each`` or more patients, 1-4 images each, some with two classes."""
    classes = draw(st.integers(2, 3))
    labels_of = []
    for c in range(classes):
        for _ in range(each + draw(st.integers(0, 4)) * (c == 0)):
            images = [c] * draw(st.integers(1, 4))
            if draw(st.integers(0, 5)) == 0:
                images.append((c + 1) % classes)
            labels_of.append(images)
    return table(labels_of, classes)


def cut(
    data: Dataset, *, outer: int = 3, inner: int = 2, repeats: int = 1, seed: int = 0
) -> Splits:
    return split(data, outer_folds=outer, inner_folds=inner, repeats=repeats, seed=seed)


def patients_of(data: Dataset, ids: tuple[str, ...]) -> set[str]:
    return set(data.select(ids).patients.tolist())


def classes_of(data: Dataset, ids: tuple[str, ...]) -> set[int]:
    return set(data.select(ids).labels.tolist())


@FEW
@given(tables(), st.integers(0, 1000))
def test_every_row_is_tested_once_patients_stay_whole_and_every_class_is_in_every_fold(
    data: Dataset, seed: int
) -> None:
    found = cut(data, seed=seed)
    every, classes = Counter(data.ids.tolist()), set(range(len(data.classes)))
    assert Counter(name for fold in found.outer for name in fold.test) == every
    for fold in found.studies:
        assert Counter((*fold.train, *fold.test)) == every
        assert patients_of(data, fold.train) == fold.train_patients
        assert patients_of(data, fold.test) == fold.test_patients
        assert not fold.train_patients & fold.test_patients
        if fold.test:
            assert classes_of(data, fold.test) == classes
        assert Counter(name for part in fold.inner for name in part.val) == Counter(fold.train)
        for part in fold.inner:
            assert Counter((*part.fit, *part.val)) == Counter(fold.train)
            assert classes_of(data, part.val) == classes == classes_of(data, part.fit)
            assert patients_of(data, part.fit) == part.fit_patients
            assert patients_of(data, part.val) == part.val_patients
            assert not part.fit_patients & part.val_patients
            assert not part.val_patients & fold.test_patients


@FEW
@given(tables(), st.integers(0, 1000))
def test_the_same_seed_cuts_the_same_folds(data: Dataset, seed: int) -> None:
    first, second = cut(data, seed=seed, outer=2), cut(data, seed=seed, outer=2)
    assert first == second


def test_another_seed_cuts_other_folds() -> None:
    data, _ = make_rows(patients=24)
    assert cut(data, seed=1).outer != cut(data, seed=2).outer


@FEW
@given(tables(), st.integers(0, 100))
def test_inner_folds_come_from_the_outer_training_side_alone(data: Dataset, seed: int) -> None:
    """A test side of other labels and patients leaves the inner folds as they were."""
    fold = cut(data, outer=2, seed=seed).outer[0]
    side = data.select(fold.train)
    parts, _ = partition(side, 2, seed=derive_seed(seed, fold.name, "inner"), what="inner")
    assert [set(side.ids[part].tolist()) for part in parts] == [set(p.val) for p in fold.inner]


@FEW
@given(tables(), st.integers(0, 1000))
def test_the_second_division_holds_each_training_row_once_and_every_class_in_every_fold(
    data: Dataset, seed: int
) -> None:
    fold = cut(data, outer=2, seed=seed).outer[0]
    again = divide_again(fold.train_side(data), fold, seed)
    assert len(again) == len(fold.inner)
    assert sorted(row for part in again for row in part.val) == sorted(fold.train)
    for part in again:
        assert {*part.fit, *part.val} == set(fold.train)
        assert not part.fit_patients & part.val_patients
        assert classes_of(data, part.val) == set(range(len(data.classes)))
    assert not {part.name for part in again} & {part.name for part in fold.inner}
    assert again == divide_again(fold.train_side(data), fold, seed)


def test_the_second_division_depends_on_the_study_and_the_seed() -> None:
    data = make_rows(patients=60, images=1)[0]
    one = cut(data, inner=3, seed=1).outer[0]
    second = {part.val for part in divide_again(one.train_side(data), one, 1)}
    assert second != {part.val for part in one.inner}
    assert second != {part.val for part in divide_again(one.train_side(data), one, 2)}


def test_labels_are_all_that_balances_the_folds_and_features_have_no_part() -> None:
    data, _ = make_rows(patients=24)
    noisy = np.random.default_rng(1).normal(size=data.features.tabular.shape) * 1e6
    other = replace(
        data,
        features=replace(data.features, tabular=noisy, images=data.ids),
        fingerprint="other",
        name="other",
    )
    assert cut(data) == cut(other)


def cuts_change_with_the_features() -> bool:
    """Whether the same labels and patients are cut otherwise when all columns become noise."""
    data, _ = make_rows(patients=24)
    noise = np.random.default_rng(1).normal(size=data.features.tabular.shape)
    return cut(data) != cut(replace(data, features=replace(data.features, tabular=noise)))


def test_planted_search_for_the_split_that_scores_best_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the divisions tried, the one whose folds are told apart best by age is taken."""
    honest = module._imbalance

    def leaky(data: Dataset, parts: list[np.ndarray]) -> float | None:
        age = np.nan_to_num(data.features.tabular[:, 0])
        scores = [np.corrcoef(age[part], data.labels[part])[0, 1] for part in parts]
        return None if honest(data, parts) is None else -float(np.nanmin(scores))

    assert not cuts_change_with_the_features()
    monkeypatch.setattr(module, "_imbalance", leaky)
    assert cuts_change_with_the_features()


def by_image(data: Dataset, folds: int, seed: int) -> list[np.ndarray]:
    """Parts that know nothing of patients."""
    order = np.random.default_rng(seed).permutation(len(data))
    return [np.sort(order[k::folds]) for k in range(folds)]


def plant_split_by_image(patch: pytest.MonkeyPatch, level: str) -> None:
    """Folds of one level, ``outer`` or ``inner``, are cut without regard to patients."""
    honest = module.partition

    def leaky(data: Dataset, folds: int, *, seed: int, what: str) -> tuple[list[np.ndarray], int]:
        if what == level:
            return by_image(data, folds, seed % 2**32), 0
        return honest(data, folds, seed=seed, what=what)

    patch.setattr(module, "partition", leaky)


def test_planted_outer_split_by_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = make_rows(patients=24)
    plant_split_by_image(monkeypatch, "outer")
    with pytest.raises(LeakError, match=r"outer-0: patients \['p\d+'.* are in both train and test"):
        cut(data)


def test_planted_inner_split_by_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = make_rows(patients=24)
    plant_split_by_image(monkeypatch, "inner")
    with pytest.raises(LeakError, match=r"inner-0: patients \['p\d+'.* are in both fit and val"):
        cut(data)


def test_each_repeat_is_a_partition_of_its_own_and_names_go_on_counting() -> None:
    data, _ = make_rows(patients=24)
    found = cut(data, outer=2, repeats=3)
    assert [fold.name for fold in found.outer] == [f"outer-{k}" for k in range(6)]
    assert [fold.repeat for fold in found.outer] == [0, 0, 1, 1, 2, 2]
    for repeat in range(3):
        tested = [n for fold in found.outer if fold.repeat == repeat for n in fold.test]
        assert Counter(tested) == Counter(data.ids.tolist())
    assert len({frozenset(fold.test) for fold in found.outer}) == 6
    once = cut(data, outer=2)
    assert found.outer[:2] == once.outer, "more repeats leave the first as it was"
    assert found.final == once.final


def test_the_final_study_has_all_rows_and_tests_none() -> None:
    data, _ = make_rows(patients=24)
    found = cut(data)
    assert found.final.name == "final"
    assert found.final.test == ()
    assert set(found.final.train) == set(data.ids.tolist())
    assert [fold.name for fold in found.studies] == ["outer-0", "outer-1", "outer-2", "final"]
    assert [fold.name for fold in found.final.inner] == ["inner-0", "inner-1"]


def test_the_attempt_taken_is_recorded_and_makes_the_very_division() -> None:
    data, _ = make_rows(patients=24)
    found = cut(data)
    assert set(found.attempts) == {"repeat-0", "outer-0", "outer-1", "outer-2", "final"}
    parts, attempt = partition(data, 3, seed=derive_seed(0, "outer", 0), what="outer")
    assert found.attempts["repeat-0"] == attempt
    assert [set(data.ids[p].tolist()) for p in parts] == [set(f.test) for f in found.outer]


def imbalance(data: Dataset, parts: list[np.ndarray]) -> float:
    """Largest difference of a class's share, and of a fold's size, from the fair one."""
    shares = np.bincount(data.labels) / len(data)
    worst_share = max(
        float(np.abs(np.bincount(data.labels[p], minlength=len(shares)) / len(p) - shares).max())
        for p in parts
    )
    worst_size = max(abs(len(p) * len(parts) / len(data) - 1) for p in parts)
    return worst_share + worst_size


@FEW
@given(tables(each=5), st.integers(0, 100))
def test_the_best_balanced_of_many_attempts_is_taken(data: Dataset, seed: int) -> None:
    taken, attempt = partition(data, 3, seed=seed, what="outer")
    found = []
    for k in range(module.SEEDS_TRIED):
        parts = group_folds(data.labels, data.patients, 3, derive_seed(seed, k) % 2**32)
        whole = all(len(set(data.labels[p].tolist())) == len(data.classes) for p in parts)
        found.append(imbalance(data, parts) if whole else np.inf)
    assert imbalance(data, taken) == pytest.approx(min(found), abs=1e-12)
    assert attempt == int(np.argmin(np.round(found, 12)))


@pytest.mark.parametrize("seed", range(30))
def test_folds_are_those_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    folds, patients = int(rng.integers(2, 7)), int(rng.integers(20, 120))
    of = rng.integers(0, patients, 3 * patients).astype(str)
    labels = rng.integers(0, rng.integers(2, 6), len(of)) // int(rng.integers(1, 3))
    options = {"n_splits": folds, "shuffle": True, "random_state": seed}
    expected = StratifiedGroupKFold(**options).split(of, labels, of)
    found = group_folds(labels, of, folds, seed)
    for (_, theirs), ours in zip(expected, found, strict=True):
        np.testing.assert_array_equal(theirs, ours)


def test_many_attempts_balance_better_than_one() -> None:
    rng = np.random.default_rng(0)
    images = [(rng.random(int(rng.integers(1, 4))) < 0.4).astype(int) for _ in range(20)]
    data = table([patient.tolist() for patient in images], 2)
    best, _ = partition(data, 3, seed=3, what="outer")
    single = [
        imbalance(data, group_folds(data.labels, data.patients, 3, derive_seed(3, k) % 2**32))
        for k in range(8)
    ]
    assert imbalance(data, best) <= min(single)
    assert imbalance(data, best) < np.mean(single) - 0.01


def test_a_single_attempt_can_lack_a_class_and_is_then_not_taken() -> None:
    """What scikit-learn returns for few patients is checked, not trusted."""
    data = table([[0, 0, 0], [1], [0], [0, 0, 0], [1, 0, 0, 1, 1, 1, 0], [1, 0, 1]], 2)
    lacking = [
        any(
            len(set(data.labels[p].tolist())) < 2
            for p in group_folds(data.labels, data.patients, 3, seed)
        )
        for seed in range(40)
    ]
    assert any(lacking)
    for seed in range(5):
        parts, _ = partition(data, 3, seed=seed, what="outer")
        assert all(set(data.labels[p].tolist()) == {0, 1} for p in parts)


# -- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "outer", "inner", "message"),
    [
        (
            (20, 3),
            5,
            4,
            r"class 'class-1' has 3 patients, too few for 5 outer folds with 4 inner "
            r"folds each \(every fold needs a different patient\); --outer-folds 3 --inner-folds 2 "
            r"would work",
        ),
        (
            (20, 5),
            5,
            5,
            r"class 'class-1' has 5 patients, .*; --outer-folds 5 --inner-folds 4 would",
        ),
        (
            (20, 1),
            5,
            4,
            r"class 'class-1' has 1 patients, .*; no number of folds would work; merge the "
            r"class with another, leave it out with --classes, or find more patients",
        ),
        ((2, 20), 2, 2, r"class 'class-0' has 2 patients, .*; no number of folds would work"),
        (
            (4, 3),
            5,
            4,
            r"class 'class-1' has 3 patients, .*; --outer-folds 3 --inner-folds 2 would",
        ),
    ],
)
def test_too_few_patients_of_a_class_are_refused_with_numbers_that_would_work(
    sizes: tuple[int, int], outer: int, inner: int, message: str
) -> None:
    data = table([[c, c] for c, size in enumerate(sizes) for _ in range(size)], 2)
    with pytest.raises(DataError, match=message):
        cut(data, outer=outer, inner=inner)


@pytest.mark.parametrize("sizes", [(20, 3), (9, 4), (5, 4)])
def test_the_numbers_that_a_refusal_names_do_work(sizes: tuple[int, int]) -> None:
    data = table([[c, c] for c, size in enumerate(sizes) for _ in range(size)], 2)
    with pytest.raises(DataError, match="would work") as refusal:
        cut(data, outer=5, inner=4)
    words = str(refusal.value).split()
    outer, inner = (int(words[words.index(f"--{k}-folds") + 1]) for k in ("outer", "inner"))
    assert len(cut(data, outer=outer, inner=inner).outer) == outer


def test_patients_are_counted_and_not_images() -> None:
    data = table([[0]] * 10 + [[1] * 40] * 2, 2)
    assert patients_by_class(data) == {"class-0": 10, "class-1": 2}
    with pytest.raises(DataError, match="class 'class-1' has 2 patients, too few for 3 outer"):
        cut(data)


def test_a_division_that_no_attempt_finds_is_refused_with_the_counts() -> None:
    """One patient has all images of a class but one."""
    data = table([[0], [0], [0], [0, 1], [1, 1, 1]], 2)
    with pytest.raises(
        DataError,
        match=r"inner folds: no division of 5 patients into 3 folds puts every class into every "
        r"fold \(class-0: 4 patients, class-1: 2 patients\); ask for fewer --inner-folds",
    ):
        partition(data, 3, seed=0, what="inner")


def test_fewer_patients_than_folds_are_refused_alike() -> None:
    """An outer fold may take more patients than its fair share, and so leave too few."""
    data = table([[0, 1, 0, 1], [0, 1, 0, 1]], 2)
    with pytest.raises(DataError, match="inner folds: no division of 2 patients into 3 folds puts"):
        partition(data, 3, seed=0, what="inner")


@FEW
@given(st.lists(st.integers(1, 7), min_size=2, max_size=3), st.integers(2, 4), st.integers(2, 3))
def test_a_split_is_whole_or_refused_in_words_and_never_broken(
    sizes: list[int], outer: int, inner: int
) -> None:
    data = table([[c] for c, size in enumerate(sizes) for _ in range(size)], len(sizes))
    left = min(sizes) - -(-min(sizes) // outer)
    if min(sizes) < outer or left < inner:
        with pytest.raises(DataError, match="too few for"):
            cut(data, outer=outer, inner=inner)
        return
    for fold in cut(data, outer=outer, inner=inner).outer:
        assert classes_of(data, fold.test) == set(range(len(sizes)))


def test_a_flat_search_scores_by_the_outer_folds_of_a_nested_one() -> None:
    data, _ = make_rows(patients=24)
    flat, nested = split_flat(data, folds=3, seed=5), cut(data, seed=5)
    assert flat.outer == ()
    assert [study.name for study in flat.studies] == ["final"]
    assert flat.final.repeat == 0
    assert flat.final.test == ()
    assert set(flat.final.train) == set(data.ids.tolist())
    assert [fold.name for fold in flat.final.inner] == ["outer-0", "outer-1", "outer-2"]
    assert [set(fold.val) for fold in flat.final.inner] == [set(f.test) for f in nested.outer]
    assert flat.attempts == {"repeat-0": nested.attempts["repeat-0"]}


@pytest.mark.parametrize(("patients", "attempts"), [(24, 40), (1000, 8), (1001, 8), (8001, 1)])
def test_few_patients_are_divided_forty_times_and_many_until_eight_thousand(
    monkeypatch: pytest.MonkeyPatch, patients: int, attempts: int
) -> None:
    tried = []

    def divide(labels: IntArray, of: StrArray, folds: int, seed: int) -> list[IntArray]:
        tried.append(seed)
        return [np.arange(len(labels))[at::folds] for at in range(folds)]

    monkeypatch.setattr(module, "group_folds", divide)
    monkeypatch.setattr(module, "SEEDS_TRIED", TRIED)
    data = table([[0, 1, 1] for _ in range(patients)], 2)
    partition(data, 3, seed=3, what="outer")
    assert len(tried) == len(set(tried)) == attempts


def test_attempts_go_on_until_one_has_every_class_in_every_fold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []

    def divide(labels: IntArray, of: StrArray, folds: int, seed: int) -> list[IntArray]:
        tried.append(seed)
        rows = np.arange(len(labels))
        return [rows[labels == at] for at in (0, 1)] if len(tried) < 12 else [rows[::2], rows[1::2]]

    monkeypatch.setattr(module, "group_folds", divide)
    monkeypatch.setattr(module, "ENOUGH_PATIENTS", 10)
    monkeypatch.setattr(module, "SEEDS_TRIED", TRIED)
    data = table([[0, 0, 1, 1] for _ in range(4)], 2)
    assert partition(data, 2, seed=3, what="outer")[1] == 11
    assert len(tried) == 12


def test_as_many_patients_and_images_of_a_class_as_folds_may_do() -> None:
    for patients, folds, possible in (
        ([[0, 1]] * 3, 3, True),
        ([[0, 1]] * 3, 4, False),
        ([[0, 0, 1, 1]] * 2, 3, False),  # images enough, but not patients
        ([[0], [0], [0], [1], [1]], 3, False),
        ([[0], [0], [0], [1], [1], [1]], 3, True),
    ):
        assert _may_be_possible(table(patients, 2), folds) is possible


def test_the_last_way_out_is_two_folds_of_two() -> None:
    data = table([[0]] * 20 + [[1]] * 4, 2)
    with pytest.raises(DataError, match="--outer-folds 2 --inner-folds 2 would work"):
        split(data, outer_folds=2, inner_folds=5, repeats=1, seed=0)


def test_the_imbalance_counts_small_parts_as_well_as_large_ones() -> None:
    even = replace(table([[0, 1]] * 9, 2), labels=np.tile([0, 1], 9))
    rows = np.arange(18)
    for parts in ([rows[:8], rows[8:16], rows[16:]], [rows[:2], rows[2:4], rows[4:]]):
        assert _imbalance(even, parts) == pytest.approx(imbalance(even, parts))
    assert _imbalance(even, [rows[:8], rows[8:16], rows[16:]]) == pytest.approx(2 / 3)
    assert _imbalance(even, [rows[:2], rows[2:4], rows[4:]]) == pytest.approx(4 / 3)
    assert _imbalance(even, [rows[:1], rows[1:9], rows[9:]]) is None
