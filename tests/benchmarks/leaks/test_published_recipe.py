"""The leaky ways learn noise where the honest one does not, and the shares say why."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from benchmarks.leaks import published_recipe
from benchmarks.shared import leaky_ways
from benchmarks.shared.leaky_ways import IMAGE_WAYS, SHEET_WAYS, Table, compare, score_each_repeat

CLASSES = ("rare", "some", "most")
HEAD = partial(leaky_ways.head, epochs=6)


def noise(*, patients: int, views: int, width: int = 32, seed: int = 0) -> Table:
    """Labels drawn apart from the inputs; the views of a patient look and are labelled alike."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), views)
    label = rng.choice(3, size=patients, p=(0.15, 0.25, 0.6))[who]
    own = rng.normal(size=(patients, width))[who]
    inputs = own + 0.2 * rng.normal(size=(len(who), width))
    return Table(
        inputs.astype(np.float32),
        label.astype(np.int64),
        np.array([f"i{at}" for at in range(len(who))]),
        np.array([f"p{at}" for at in who]),
        CLASSES,
    )


def scores(outcomes):
    return [float(np.mean(score_each_repeat(outcome, "roc_auc"))) for outcome in outcomes]


@pytest.fixture(scope="module", autouse=True)
def _first_division_that_works():
    """Seconds instead of a minute: folds need not be the best balanced of forty."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("outerfold.study.splits.ENOUGH_PATIENTS", 1)
        yield


@pytest.fixture(scope="module")
def several():
    """Every way on 60 patients of three views and no signal."""
    table = noise(patients=60, views=3)
    return table, compare(IMAGE_WAYS, table, HEAD, repeats=1, seed=0)


def test_a_split_by_image_scores_noise_and_a_split_by_patient_does_not(several):
    resampled, by_image, by_patient = scores(several[1])
    assert resampled > 0.9
    assert by_image > 0.9
    assert abs(by_patient - 0.5) < 0.15


def test_rows_repeated_before_the_split_score_noise_where_every_patient_has_one_image():
    table = noise(patients=120, views=1)
    resampled, by_image = scores(compare(IMAGE_WAYS[:2], table, HEAD, repeats=1, seed=0))
    assert resampled > 0.75
    assert abs(by_image - 0.5) < 0.15


def test_the_shares_name_each_ways_leak_and_the_honest_way_has_none(several):
    resampled, by_image, by_patient = several[1]
    assert resampled.copies > 0.4
    assert by_image.copies == 0
    assert by_image.acquainted > 0.8
    assert (by_patient.copies, by_patient.acquainted) == (0, 0)


def test_shared_counts_test_rows_that_training_knows():
    names = np.array(["a", "a", "b", "c", "c", "d"])
    tests = [np.array([0, 2, 3, 4]), np.array([1, 5])]
    assert leaky_ways.shared(names, tests) == 2 / 6  # the two rows called a


def test_a_tree_scores_ages_that_only_name_the_patient_unless_patients_stay_together():
    table = noise(patients=60, views=4, width=2)
    alike = np.repeat(table.inputs[::4], 4, axis=0)
    alike[:4, 1] = np.nan
    two = replace(
        table, inputs=alike, labels=np.minimum(table.labels, 1), classes=("other", "cancer")
    )
    by_image, by_patient = scores(compare(SHEET_WAYS, two, leaky_ways.tree, repeats=1, seed=0))
    assert by_image > 0.9
    assert abs(by_patient - 0.5) < 0.15


def test_every_image_is_tested_once_a_repeat_and_a_seed_gives_the_same_numbers_again():
    table = noise(patients=50, views=2, width=4)
    run = partial(compare, IMAGE_WAYS[1:], table, HEAD, repeats=2)
    one, again, other = run(seed=0), run(seed=0), run(seed=1)
    for first, second in zip(one, again, strict=True):
        images = [first.predictions.ids[first.predictions.repeat == repeat] for repeat in (0, 1)]
        assert [len(set(tested.tolist())) for tested in images] == [len(table.labels)] * 2
        np.testing.assert_array_equal(
            first.predictions.probabilities, second.predictions.probabilities
        )
    assert scores(one) != scores(other)


def test_the_written_table_gives_an_interval_to_the_honest_way_and_differences_to_the_others(
    several,
):
    text = published_recipe.image_section(*several)
    first, second, honest = [line for line in text.splitlines() if line.startswith("| (")]
    assert "95 % CI" in honest
    assert "(+" in first
    assert "(+" in second
    assert "CI" not in first + second
    assert honest.endswith("| 0% of test rows | 0% of test rows |")
