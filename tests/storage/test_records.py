"""The records check themselves: a leak cannot be said, a stranger cannot be asked for."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outerfold.storage.records import (
    Column,
    DataError,
    Dataset,
    Ensemble,
    Features,
    Fold,
    LeakError,
    OuterFold,
    Predictions,
)
from outerfold.storage.seeds import derive_seed
from tests.reports.run_factory import make_run

PATIENTS = ("p1", "p1", "p2", "p3", "p3", "p4")
IDS = ("a", "b", "c", "d", "e", "f")


def features(ids: tuple[str, ...] = IDS, **changes: Any) -> Features:
    n = len(ids)
    kept = {
        "ids": np.array(ids),
        "images": np.array([f"/i/{name}.png" for name in ids]),
        "tabular": np.arange(2.0 * n).reshape(n, 2),
        "columns": (Column("age"), Column("bmi")),
    }
    return Features(**{**kept, **changes})


def dataset(**changes: Any) -> Dataset:
    kept = {
        "features": features(),
        "labels": np.array([0, 1, 0, 1, 1, 0]),
        "patients": np.array(PATIENTS),
        "classes": ("benign", "cancer"),
        "fingerprint": "f",
        "name": "mine",
        "synthetic": True,
        "patients_known": False,
        "assumptions": ("one",),
    }
    return Dataset(**{**kept, **changes})


def fold(name: str = "inner-0", **changes: Any) -> Fold:
    kept = {
        "fit": ("a", "b"),
        "val": ("c",),
        "fit_patients": frozenset({"p1"}),
        "val_patients": frozenset({"p2"}),
    }
    return Fold(name, **{**kept, **changes})


def outer(**changes: Any) -> OuterFold:
    kept = {
        "name": "outer-0",
        "repeat": 0,
        "train": ("a", "b", "c", "d", "e"),
        "test": ("f",),
        "train_patients": frozenset({"p1", "p2", "p3"}),
        "test_patients": frozenset({"p4"}),
        "inner": (fold(),),
    }
    return OuterFold(**{**kept, **changes})


# -- features and datasets -------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(IDS), max_size=6, unique=True))
def test_rows_are_selected_by_id_in_the_order_asked(ids: list[str]) -> None:
    data = dataset().select(ids)
    assert data.ids.tolist() == ids
    whole = dataset()
    for i, name in enumerate(ids):
        at = IDS.index(name)
        assert data.labels[i] == whole.labels[at]
        assert data.patients[i] == whole.patients[at]
        assert data.features.images[i] == f"/i/{name}.png"
        assert data.features.tabular[i].tolist() == whole.features.tabular[at].tolist()


def test_a_selection_keeps_all_that_is_said_of_the_whole() -> None:
    part, whole = dataset().select(["c", "a"]), dataset()
    for name in ("classes", "fingerprint", "name", "synthetic", "patients_known", "assumptions"):
        assert getattr(part, name) == getattr(whole, name)
    assert part.features.columns == whole.features.columns


def test_a_stranger_among_the_ids_is_refused_with_the_first_three() -> None:
    with pytest.raises(
        DataError,
        match=r"ids \['x', 'y', 'z'\] are not among these 6 rows \(4 unknown ids in all\)",
    ):
        dataset().select(["x", "a", "y", "z", "q"])
    with pytest.raises(DataError, match=r"ids \['g'\] are not among these 6 rows \(1 unknown ids"):
        features().positions(["g"])


def test_no_row_has_a_name_among_none_and_no_name_is_asked_of_some() -> None:
    with pytest.raises(DataError, match=r"ids \['a'\] are not among these 0 rows \(1 unknown"):
        features().select([]).positions(["a"])
    assert features().positions([]).tolist() == []


def test_numbers_read_as_missing_are_no_part_of_what_a_column_is() -> None:
    plain, gappy = Column("age"), Column("age", gaps=(999.0,))
    assert plain == gappy
    assert repr(plain) == repr(gappy)


def test_rows_are_of_known_patients_and_no_program_unless_it_is_said() -> None:
    rows = Dataset(features(("a",)), np.zeros(1, np.int64), np.array(["p"]), ("x", "y"), "f")
    assert (rows.name, rows.synthetic, rows.patients_known) == ("data", False, True)
    assert rows.groups.tolist() == ["p"]
    assert (len(rows.sides), len(rows.originals), rows.facts) == (0, 0, {})


def test_one_prediction_has_its_patient_as_group() -> None:
    zero, name = np.zeros(1, np.int64), np.array(["a"])
    one = Predictions(name, np.array(["p"]), name, zero, zero, np.eye(2)[:1], zero, ("x", "y"))
    assert one.groups.tolist() == ["p"]
    assert one.take(np.array([True])).groups.tolist() == ["p"]


def test_three_of_the_rows_on_both_sides_are_named() -> None:
    shared = ("a", "b", "c", "d")
    with pytest.raises(LeakError, match=r"rows \['a', 'b', 'c'\] are in both fit and val \(4 in"):
        fold(fit=shared, val=shared)


def test_three_of_the_patients_on_both_sides_are_named() -> None:
    data = dataset(patients=np.array(["p1", "p2", "p3", "p4", "p5", "p6"]))
    ids = tuple(data.ids.tolist())
    fold = OuterFold("outer-0", 0, ids, (), frozenset(), frozenset(data.patients.tolist()), ())
    with pytest.raises(LeakError, match=r"patients \['p1', 'p2', 'p3'\] are in both .* \(6 in all"):
        fold.train_side(data)


def test_a_run_is_itself_alone() -> None:
    run = make_run()
    assert run != replace(run)


def test_an_id_that_occurs_twice_is_refused() -> None:
    with pytest.raises(DataError, match=r"ids must be unique: \['a', 'c'\] occur twice \(2 in all"):
        features(("a", "b", "c", "a", "c", "c"))
    with pytest.raises(DataError, match=r"ids must be unique: \['a'\] occur twice"):
        features().select(["a", "a"])


@pytest.mark.parametrize(
    "changes",
    [
        {"images": np.array(["/i/a.png"])},
        {"tabular": np.zeros((6, 3))},
        {"tabular": np.zeros(6)},
        {"columns": ()},
    ],
)
def test_features_of_unlike_lengths_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"6 ids need 6 images and a table of \(6, \d\), found \("):
        features(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"labels": np.zeros(5, dtype=int)},
            r"6 rows need 6 labels and patients, found \(5,\) and",
        ),
        (
            {"patients": np.array(["p"])},
            r"6 rows need 6 labels and patients, found \(6,\) and \(1,\)",
        ),
        (
            {"labels": np.array([0, 1, 2, 0, 0, 0])},
            r"labels must index the 2 classes \['benign', 'cancer'\], found 0..2",
        ),
        (
            {"labels": np.array([0, 1, -1, 0, 0, 0])},
            r"labels must index the 2 classes .* found -1..1",
        ),
    ],
)
def test_a_dataset_that_does_not_fit_together_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        dataset(**changes)


def test_features_hold_no_labels_and_no_patients() -> None:
    assert set(Features.__dataclass_fields__) == {"ids", "images", "tabular", "columns"}


def test_records_cannot_be_changed_in_place() -> None:
    data = dataset()
    with pytest.raises(FrozenInstanceError):
        data.labels = np.zeros(6)  # type: ignore[misc, assignment]
    with pytest.raises(FrozenInstanceError):
        outer().test = ()  # type: ignore[misc]


def test_no_rows_are_rows_too() -> None:
    none = dataset().select([])
    assert len(none) == 0
    assert none.features.tabular.shape == (0, 2)


# -- folds -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val": ("b", "c")}, r"inner-0: rows \['b'\] are in both fit and val \(1 in all\)"),
        (
            {"val_patients": frozenset({"p1", "p2"})},
            r"inner-0: patients \['p1'\] are in both fit and val \(1 in all\)",
        ),
        (
            {"fit": tuple("abcdef"), "val": tuple("fedcb")},
            r"inner-0: rows \['b', 'c', 'd'\] are in both fit and val \(5 in all\)",
        ),
    ],
)
def test_an_inner_fold_with_a_row_or_patient_on_both_sides_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(LeakError, match=message):
        fold(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": ("f", "e")}, r"outer-0: rows \['e'\] are in both train and test \(1 in all\)"),
        (
            {"test_patients": frozenset({"p4", "p3"})},
            r"outer-0: patients \['p3'\] are in both train and test \(1 in all\)",
        ),
        (
            {"inner": (fold(), fold("inner-1", val=("f",)))},
            r"outer-0/inner-1: rows \['f'\] are not on the training side \(1 in all\)",
        ),
        (
            {"inner": (fold(fit=("a", "f")),)},
            r"outer-0/inner-0: rows \['f'\] are not on the training side \(1 in all\)",
        ),
    ],
)
def test_an_outer_fold_whose_test_rows_could_be_learnt_from_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(LeakError, match=message):
        outer(**changes)


def test_the_training_side_is_the_training_rows_and_no_others() -> None:
    side = outer().train_side(dataset())
    assert side.ids.tolist() == ["a", "b", "c", "d", "e"]
    assert "p4" not in side.patients.tolist()


def test_a_training_side_with_a_patient_of_the_test_side_is_refused() -> None:
    """The fold was told of other patients than the data have."""
    data = dataset(patients=np.array(["p1", "p4", "p2", "p3", "p3", "p4"]))
    with pytest.raises(LeakError, match=r"outer-0: patients \['p4'\] are in both train and test"):
        outer().train_side(data)


def test_a_leak_is_a_fault_of_the_data_and_that_a_value_error() -> None:
    assert issubclass(LeakError, DataError)
    assert issubclass(DataError, ValueError)


def test_a_fold_without_test_rows_is_the_study_of_all_rows() -> None:
    whole = outer(train=IDS, test=(), test_patients=frozenset(), inner=())
    assert len(whole.train_side(dataset())) == 6
    assert replace(whole, name="final").name == "final"


# -- seeds -----------------------------------------------------------------------------------


def test_a_derived_seed_depends_on_the_seed_and_on_all_it_is_for() -> None:
    uses = [("outer-0", 1), ("outer-1", 1), ("outer-0", 2), ("outer-0",), ("outer-0", 1, "x"), ()]
    seeds = {derive_seed(seed, *use) for seed in (0, 1) for use in uses}
    assert len(seeds) == 12
    assert derive_seed(0, "outer-0", 1) == derive_seed(0, "outer-0", "1") == 4867711979586754736
    assert all(0 <= seed < 2**63 for seed in seeds)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**40), st.integers(0, 10**4))
def test_derived_seeds_of_neighbours_share_nothing(seed: int, trial: int) -> None:
    one, next_one = derive_seed(seed, trial), derive_seed(seed, trial + 1)
    assert one != next_one
    assert abs(one - next_one) > 1000


def test_a_run_ships_where_a_final_model_or_an_ensemble_was_made() -> None:
    run = make_run()
    none = replace(run, final=None, ensemble=None)
    ensemble = replace(none, ensemble=Ensemble(("outer-0",), 0.5))
    assert [one.ships for one in (run, none, ensemble)] == [True, False, True]
    assert replace(run, ensemble=ensemble.ensemble).ships
