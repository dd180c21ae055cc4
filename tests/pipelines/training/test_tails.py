"""A tail of the encoder learns with its head, from its fold's rows and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from outerfold.pipelines._base import Epoch, TrainingDiverged
from outerfold.pipelines.heads.stacked import BatchNorm
from outerfold.pipelines.training.micro_batches import MicroBatches, Moment, out_of_memory
from outerfold.pipelines.training.tail_fold import TailFold
from outerfold.pipelines.training.tails import CHANGES, TailTraining
from tests.factories import scrambled
from tests.pipelines.rows.fold_factories import only
from tests.pipelines.training.tail_factories import SmallTail, begin, tail_rows, with_tail

pytestmark = pytest.mark.usefixtures("one_thread")


def weights(training: TailTraining, fold: int = 0) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in training.fitted(fold).state().items()}


def same(one: Epoch, other: Epoch) -> bool:
    return all(map(np.array_equal, one.probabilities, other.probabilities))


@pytest.mark.parametrize(("task", "attention"), [("dbt", True), ("multimodal", False)])
def test_tail_and_head_both_learn(task: str, attention: bool) -> None:
    rows = tail_rows(task, tokens=attention)
    training = begin(rows, task, attention=attention)
    before = weights(training)
    epochs = list(training)
    after = weights(training)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.split(".")[0] for name in moved} == {"head", "tails"}
    assert "tails.0.conv.weight" in moved
    assert epochs[-1].fit_loss.mean() < epochs[0].fit_loss.mean()


def test_the_tail_learns_at_its_own_rate() -> None:
    training = begin(tail_rows())
    next(iter(training))
    head, tail = training.folds[0].optimiser.param_groups
    assert tail["lr"] == pytest.approx(0.3 * head["lr"])
    assert {id(p) for p in tail["params"]} == {id(p) for p in training.folds[0].tail.parameters()}


def test_a_fold_learns_the_same_beside_others_and_alone() -> None:
    rows = tail_rows()
    together = list(begin(rows))[-1]
    for k in range(len(rows.folds)):
        alone = list(begin(only(rows, k)))[-1]
        np.testing.assert_array_equal(alone.probabilities[0], together.probabilities[k])


def test_rows_that_validate_have_no_part_in_what_is_learnt() -> None:
    rows = tail_rows()
    held = rows.folds[0].fold.val
    data, source = scrambled(rows.train, rows.source, held)  # type: ignore[arg-type]
    changed = type(rows)(
        data, [rows.folds[0].fold], with_tail(source), tokens=False, seed=rows.seed
    )
    one, other = begin(only(rows, 0)), begin(changed)
    first, second = list(one)[-1], list(other)[-1]
    np.testing.assert_array_equal(first.fit_loss, second.fit_loss)
    assert all(map(torch.equal, weights(one).values(), weights(other).values()))
    assert not np.array_equal(first.probabilities[0], second.probabilities[0])


def test_rows_that_score_are_seen_untouched() -> None:
    """The other views could be anything, and only what is learnt would change."""
    rows = tail_rows()
    training = begin(rows, augmented_views=0, learning_rate=0.0)
    values = rows.source.values.copy()  # type: ignore[attr-defined]
    values[1:] = 1e4
    noisy = type(rows)(
        rows.train,
        [fold.fold for fold in rows.folds],
        replace(rows.source, values=values),  # type: ignore[type-var]
        tokens=False,
        seed=rows.seed,
    )
    assert same(list(training)[-1], list(begin(noisy, augmented_views=0, learning_rate=0.0))[-1])


def test_a_learning_rate_that_blows_up_says_so() -> None:
    with pytest.raises(TrainingDiverged, match=r"epoch 1: .* \(learning rate 1e\+30, of the tail"):
        list(begin(tail_rows(), learning_rate=1e30))


def test_several_networks_average_their_probabilities() -> None:
    training = begin(tail_rows(folds=(0.3, 0.2)))
    list(training)
    features = training.rows.train.features
    both = training.fitted(0, 1)
    assert both.networks == 2
    apart = [training.fitted(k).predict(features) for k in (0, 1)]
    np.testing.assert_allclose(
        2 * both.predict(features) - apart[0],
        training.fitted(1).predict(features),
        atol=1e-6,
    )


# -- memory ----------------------------------------------------------------------------------


@contextmanager
def memory_for(
    rows: int, monkeypatch: pytest.MonkeyPatch, *, since: int = 0, error: Callable[[], Exception]
) -> Iterator[list[int]]:
    """A device on which, from call ``since`` on, no more than ``rows`` fit while training."""
    seen: list[int] = []
    forward = SmallTail.forward

    def limited(self: SmallTail, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.training:
            seen.append(len(x))
            if len(seen) > since and len(x) > rows:
                raise error()
        return forward(self, x)

    with monkeypatch.context() as patch:
        patch.setattr(SmallTail, "forward", limited)
        yield seen


ERRORS: list[Callable[[], Exception]] = [
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    lambda: RuntimeError("alloc_cpu.cpp: DefaultCPUAllocator: can't allocate memory"),
    MemoryError,
]


@pytest.mark.parametrize("error", ERRORS)
def test_a_batch_that_does_not_fit_is_trained_in_parts_and_remarked_on(
    monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception]
) -> None:
    with memory_for(8, monkeypatch, since=3, error=error) as seen:
        training = begin(tail_rows())
        epochs = list(training)
    assert len(epochs) == 2
    assert max(seen[:3]) > 8
    remarks = training.remarks()
    assert remarks["micro_batch"] == 6, "half of a batch of 12 or 13"
    assert len(remarks[CHANGES]) == 1  # type: ignore[arg-type]
    assert training.recipe.head.batch_size == 16


def test_the_effective_batch_stays_when_it_is_trained_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As many steps, and without batch normalisation or dropout the same step."""
    still: dict[str, object] = {"dropout": 0.0, "augmented_views": 0}
    rows = tail_rows()
    monkeypatch.setattr(SmallTail, "forward", _without_norm)
    monkeypatch.setattr(
        "outerfold.pipelines.heads.stacked.BatchNorm.forward", lambda self, x, mask: x
    )
    whole, parts = begin(rows, **still), begin(rows, **still, micro=[(0, 0, 0, 4)])
    one, other = list(whole), list(parts)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a.fit_loss, b.fit_loss, rtol=1e-4)
        for p, q in zip(a.probabilities, b.probabilities, strict=True):
            np.testing.assert_allclose(p, q, atol=1e-4)
    steps = [_steps(training) for training in (whole, parts)]
    assert steps[0] == steps[1] > 0


def _without_norm(self: SmallTail, x: Tensor) -> tuple[Tensor, Tensor]:
    spatial = self.conv(x.float().transpose(1, 2).unsqueeze(-1))
    return spatial.mean((2, 3)), nn.functional.interpolate(spatial, (4, 4))


def _steps(training: TailTraining) -> float:
    state = training.folds[0].optimiser.state
    return float(next(iter(state.values()))["step"])


def test_a_step_that_fails_after_its_forward_pass_moves_no_statistics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Statistics and their count of batches are put back before the batch is tried in parts."""
    rows = tail_rows()
    wanted = begin(rows, micro=[(0, 0, 0, 8)])
    next(iter(wanted))
    loss, calls = TailFold._row_losses, iter([True])

    def full_once(self: TailFold, logits: Tensor, labels: Tensor) -> Tensor:
        if next(calls, False):
            raise ERRORS[0]()
        return loss(self, logits, labels)

    monkeypatch.setattr(TailFold, "_row_losses", full_once)
    found = begin(rows)
    next(iter(found))
    for one, other in zip(found.folds, wanted.folds, strict=True):
        norms = [
            [m for m in fold.head.modules() if isinstance(m, BatchNorm)] for fold in (one, other)
        ]
        assert norms[0]
        for a, b in zip(*norms, strict=True):
            assert a.steps.item() == b.steps.item() > 0
            torch.testing.assert_close(a.running_var, b.running_var)


def test_the_same_parts_at_the_same_steps_give_the_same_model_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the chosen trial could not be replayed on a machine that has more memory."""
    rows = tail_rows()
    with memory_for(8, monkeypatch, since=3, error=ERRORS[0]):
        strained = begin(rows)
        first = list(strained)[-1]
    again = begin(rows, micro=strained.remarks()[CHANGES])
    assert same(first, list(again)[-1])
    assert not same(first, list(begin(rows))[-1])


def test_a_batch_that_fits_in_no_part_fails_with_the_error_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        memory_for(0, monkeypatch, error=ERRORS[0]),
        pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"),
    ):
        list(begin(tail_rows()))


def test_another_error_is_not_taken_for_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not out_of_memory(RuntimeError("expected scalar type Half but found Float"))
    with (
        memory_for(0, monkeypatch, error=lambda: RuntimeError("shapes differ")) as seen,
        pytest.raises(RuntimeError, match="shapes differ"),
    ):
        list(begin(tail_rows()))
    assert len(seen) == 1


def test_parts_shrink_from_the_moment_on_and_no_earlier() -> None:
    micro = MicroBatches()
    assert micro.halve(Moment(1, 0, 2), 64)
    assert micro.halve(Moment(1, 0, 2), 64)
    moments = Moment(1, 0, 1), Moment(1, 0, 2), Moment(2, 0, 0)
    assert [micro.parts(moment, 64) for moment in moments] == [1, 4, 4]
    assert micro.smallest == 16
    assert not MicroBatches.again([(0, 0, 0, 7)]).halve(Moment(0, 0, 0), 64)
