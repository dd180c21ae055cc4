"""What may differ between a probability that is computed again and the one that a run kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from outerfold.pipelines.encoders.registry import build
from outerfold.pipelines.fitted.calibration import Decision
from outerfold.pipelines.saved.files import encoder_card
from outerfold.pipelines.saved.model import Origin
from outerfold.storage.records import DataError
from outerfold.study.explain.finished_run import TOLERANCE, find_tolerance, refuse_other_scores


def test_the_bound_of_a_pair_holds_where_another_backend_or_precision_computes() -> None:
    encoder = build("bundled:efficientnet_lite0")
    own = replace(Origin.of(encoder_card(encoder, "")), difference=0.004)
    assert find_tolerance(own, encoder) == TOLERANCE
    assert find_tolerance(replace(own, precision="float16"), encoder) == 0.004
    assert find_tolerance(replace(own, backend="openvino"), encoder) == 0.004
    assert find_tolerance(replace(own, backend="openvino", difference=None), encoder) == TOLERANCE


def test_a_difference_above_the_bound_is_refused_with_it() -> None:
    kept, found = np.array([[0.7, 0.3]]), np.array([[0.702, 0.298]])
    decision = Decision(1.0, 0.5)
    refuse_other_scores(["a"], kept, found, decision, 0.004)
    with pytest.raises(DataError, match=r"a: its model gives 0\.702000 now.* above 0\.0001 means"):
        refuse_other_scores(["a"], kept, found, decision)
