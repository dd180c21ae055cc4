"""A stack of folds is many models: each learns what it would learn alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from outerfold.pipelines._base import Epoch, TrainingDiverged
from outerfold.pipelines.heads.random_streams import RandomStreams
from outerfold.pipelines.heads.stacked import (
    EPS,
    BatchNorm,
    Dropout,
    Linear,
    StackedAdam,
    StackedBlock,
)
from outerfold.pipelines.rows.batches import Batch, Batches, BatchRun
from outerfold.pipelines.rows.samplers import SAMPLERS, real_row_samplers
from outerfold.pipelines.rows.tabular import NetworkColumns
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.pipelines.training.heads import StackedTraining
from tests.pipelines.rows.fold_factories import only, pipeline, prepared

pytestmark = pytest.mark.usefixtures("one_thread")

EPOCHS = 2
CONFIGURATIONS = [
    *[("multimodal", attention, sampler) for attention in (False, True) for sampler in SAMPLERS],
    *[("dbt", False, sampler) for sampler in SAMPLERS],
    *[("dbt", True, sampler) for sampler in real_row_samplers()],
]


def begin(rows: TrainingRows, task: str, *, seed: int = 3, **changes: object) -> StackedTraining:
    training = pipeline(task, **changes).start(rows, budget=EPOCHS, seed=seed, device="cpu")
    assert isinstance(training, StackedTraining)
    return training


def train(training: StackedTraining) -> list[Epoch]:
    return list(training)


@pytest.mark.parametrize(("task", "attention", "sampler"), CONFIGURATIONS)
def test_a_fold_learns_in_a_stack_what_it_learns_alone(
    task: str, attention: bool, sampler: str
) -> None:
    """The rate is small: where one of millions of activations lies within rounding of 0, ReLU
    passes its gradient in the stack and not alone, and Adam makes a step of it."""
    rows = prepared(task, tokens=task == "dbt" and attention)
    assert len({len(fold.fit) for fold in rows.folds}) == len(rows.folds)
    assert len({len(fold.val) for fold in rows.folds}) == len(rows.folds)
    chosen = {
        "attention": attention,
        "sampler": sampler,
        "learning_rate": 3e-5,
        "batch_size": 28,
    }
    stacked = begin(rows, task, **chosen)
    together = train(stacked)
    assert not all(batch.active.all() for batch in stacked.batches.epoch()), "some end earlier"
    for k in range(len(rows.folds)):
        single = begin(only(rows, k), task, **chosen)
        start = single.fitted(0).state()
        for both, alone in zip(together, train(single), strict=True):
            assert both.number == alone.number
            np.testing.assert_allclose(both.fit_loss[k], alone.fit_loss[0], atol=1e-5)
            np.testing.assert_allclose(both.val_loss[k], alone.val_loss[0], atol=1e-5)
            np.testing.assert_allclose(both.probabilities[k], alone.probabilities[0], atol=1e-5)
        end, twin = single.fitted(0).state(), stacked.fitted(k).state()
        moved, apart = (
            sum(float((one[name] - end[name]).square().sum()) for name in end) ** 0.5
            for one in (start, twin)
        )
        assert apart < 0.03 * moved
        for name in start:
            assert "scaler" in name or not torch.equal(start[name], end[name]), name


@pytest.mark.parametrize(
    ("sampler", "gamma", "smoothing", "dropout"),
    [("none", 0.0, 0.0, 0.0), ("weighted", 0.5, 0.1, 0.4), ("smote", 2.0, 0.2, 0.1)],
)
@pytest.mark.parametrize("classes", [2, 4])
def test_steps_written_out_for_one_fold_teach_what_the_stack_teaches(
    classes: int, sampler: str, gamma: float, smoothing: float, dropout: float
) -> None:
    rows = prepared("dbt" if classes == 4 else "multimodal")
    chosen = {
        "sampler": sampler,
        "focal_gamma": gamma,
        "label_smoothing": smoothing,
        "dropout": dropout,
        "learning_rate": 1e-4,
        "batch_size": 28,
        "ens_beta": 0.9,
    }
    alone, stacked = (begin(rows, "dbt", **chosen) for _ in range(2))
    assert [steps.fold for steps in alone.steps] == list(range(len(rows.folds)))
    stacked.steps = []
    start = stacked.fitted(0).state()
    for one, other in zip(train(alone), train(stacked), strict=True):
        np.testing.assert_allclose(one.fit_loss, other.fit_loss, rtol=1e-4)
        np.testing.assert_allclose(one.val_loss, other.val_loss, rtol=1e-4)
        for p, q in zip(one.probabilities, other.probabilities, strict=True):
            np.testing.assert_allclose(p, q, atol=1e-4)
    end, twin = alone.fitted(0).state(), stacked.fitted(0).state()
    for name in start:
        moved, apart = ((one[name] - end[name]).norm() for one in (start, twin))
        assert "scaler" in name or apart < 0.05 * moved, name


def test_a_batch_of_one_row_leaves_the_running_statistics_numbers() -> None:
    training = begin(prepared("dbt"), "dbt")
    [steps, *_] = training.steps
    training.network.train()
    training.streams.begin(0)
    run = next(training.batches.epoch_of(0))
    for rows in (1, 2):
        steps.train(BatchRun(run.images[:rows], run.labels[:rows], [rows]), 1e-3)
        assert all(value.isfinite().all() for value in training.network.state_dict().values())


@pytest.mark.parametrize(("task", "attention"), [("multimodal", False), ("dbt", True)])
def test_other_networks_are_trained_as_a_stack(task: str, attention: bool) -> None:
    rows = prepared(task, tokens=task == "dbt")
    assert begin(rows, task, attention=attention).steps == []


def test_the_folds_of_a_stack_do_learn_different_models() -> None:
    """Else the comparison above would hold for a stack that trains one model four times."""
    last = train(begin(prepared(), "multimodal"))[-1]
    assert len({round(loss, 6) for loss in last.fit_loss.tolist()}) == 4


@pytest.mark.parametrize("task", ["multimodal", "dbt"])
def test_the_same_seed_trains_the_same_model_bit_for_bit_and_another_seed_another(
    task: str,
) -> None:
    first, again, other = (train(begin(prepared(task), task, seed=seed)) for seed in (3, 3, 4))
    for a, b in zip(first, again, strict=True):
        assert a.fit_loss.tobytes() == b.fit_loss.tobytes()
        assert a.val_loss.tobytes() == b.val_loss.tobytes()
        for p, q in zip(a.probabilities, b.probabilities, strict=True):
            assert p.tobytes() == q.tobytes()
    assert not np.allclose(first[-1].probabilities[0], other[-1].probabilities[0])


@pytest.mark.parametrize(
    ("task", "attention"),
    [
        ("multimodal", False),
        ("multimodal", True),
        ("dbt", False),
        ("dbt", True),
    ],
)
def test_a_fitted_fold_predicts_the_epochs_own_validation_probabilities(
    task: str, attention: bool
) -> None:
    rows = prepared(task, tokens=task == "dbt" and attention)
    training = begin(rows, task, attention=attention)
    epoch = list(islice(training, 2))[-1]
    for k, fold in enumerate(rows.folds):
        features = rows.train.features.select(fold.fold.val)
        np.testing.assert_allclose(
            training.fitted(k).predict(features), epoch.probabilities[k], atol=1e-6
        )


def test_a_fitted_fold_is_a_copy_that_later_epochs_leave_alone() -> None:
    rows = prepared()
    training = begin(rows, "multimodal")
    epochs = iter(training)
    next(epochs)
    fitted = training.fitted(1)
    before = fitted.predict(rows.train.features)
    next(epochs)
    assert fitted.predict(rows.train.features).tobytes() == before.tobytes()
    assert not np.allclose(training.fitted(1).predict(rows.train.features), before)


def test_a_row_is_scored_alike_whatever_rows_it_is_scored_with() -> None:
    rows = prepared()
    training = begin(rows, "multimodal")
    train(training)
    fitted, features = training.fitted(0), rows.train.features
    together = fitted.predict(features)
    chosen = [7, 3, 50]
    apart = fitted.predict(features.select([str(features.ids[i]) for i in chosen]))
    np.testing.assert_allclose(apart, together[chosen], atol=1e-6)


def test_probabilities_of_a_row_are_of_all_classes_and_sum_to_one() -> None:
    for task, classes in (("multimodal", 2), ("dbt", 4)):
        rows = prepared(task)
        for fold, p in zip(rows.folds, train(begin(rows, task))[-1].probabilities, strict=True):
            assert p.shape == (len(fold.val), classes)
            np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-12)


class Garbage(Batches):
    """The same batches with nonsense in the rows that only pad."""

    @classmethod
    def over(cls, batches: Batches) -> Garbage:
        garbage = cls.__new__(cls)
        garbage.__dict__.update(batches.__dict__)
        garbage.padded = 0
        return garbage

    def epoch(self) -> Iterator[Batch]:
        streams = torch.Generator().manual_seed(1)
        for batch in super().epoch():
            pad = batch.mask == 0  # (folds, rows, 1)
            self.padded += int(pad.sum())
            yield replace(
                batch,
                images=_spoil(batch.images, pad, streams),
                tabular=_spoil(batch.tabular, pad, streams),
                labels=torch.where(pad.squeeze(-1), 1, batch.labels),
            )


def _spoil(x: Tensor, pad: Tensor, streams: torch.Generator) -> Tensor:
    noise = torch.randn(x.shape, generator=streams) * 1e4
    return torch.where(pad.view(*pad.shape[:2], *[1] * (x.ndim - 2)), noise, x)


@pytest.mark.parametrize(
    ("task", "attention"),
    [
        ("multimodal", False),
        ("multimodal", True),
        ("dbt", False),
        ("dbt", True),
    ],
)
def test_what_pads_a_batch_changes_nothing(task: str, attention: bool) -> None:
    results = []
    for spoilt in (False, True):
        training = begin(
            prepared(task, tokens=task == "dbt" and attention), task, attention=attention
        )
        training.steps = []  # which pad nothing
        if spoilt:
            training.batches = Garbage.over(training.batches)
        results.append((train(training), training))
    garbage = results[1][1].batches
    assert isinstance(garbage, Garbage)
    assert garbage.padded > 50
    for clean, dirty in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_allclose(clean.fit_loss, dirty.fit_loss, atol=1e-6)
        for p, q in zip(clean.probabilities, dirty.probabilities, strict=True):
            np.testing.assert_allclose(p, q, atol=1e-6)


def test_validation_rows_scored_in_chunks_score_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(begin(prepared(), "multimodal"))[-1]
    monkeypatch.setattr("outerfold.pipelines.training.heads.ROWS_AT_ONCE", 5 * 3)
    parts = train(begin(prepared(), "multimodal"))[-1]
    np.testing.assert_allclose(whole.val_loss, parts.val_loss, atol=1e-6)
    for p, q in zip(whole.probabilities, parts.probabilities, strict=True):
        np.testing.assert_allclose(p, q, atol=1e-6)


def test_training_that_stops_being_numbers_says_at_which_epoch_and_with_what() -> None:
    training = begin(prepared(), "multimodal", learning_rate=1e30, focal_gamma=0.5)
    with pytest.raises(
        TrainingDiverged, match=r"epoch \d+: a loss or probability is no longer .* 1e\+30, gamma 0"
    ):
        train(training)


# -- batch normalisation ---------------------------------------------------------------------


WIDTH = 5
COUNTS = (7, 4, 2)


def masked_rows(seed: int) -> tuple[Tensor, Tensor]:
    """Rows (3, 7, 5) with garbage where a fold has fewer, and their mask (3, 7, 1)."""
    streams = torch.Generator().manual_seed(seed)
    x = torch.randn(len(COUNTS), max(COUNTS), WIDTH, generator=streams) * 3 + 1
    mask = torch.zeros(len(COUNTS), max(COUNTS), 1)
    for k, count in enumerate(COUNTS):
        mask[k, :count] = 1
        x[k, count:] = 1e3
    return x, mask


def torch_norms(norm: BatchNorm) -> list[nn.BatchNorm1d]:
    references = []
    for k in range(len(COUNTS)):
        reference = nn.BatchNorm1d(WIDTH)
        with torch.no_grad():
            reference.weight.copy_(norm.weight[k, 0])
            reference.bias.copy_(norm.bias[k, 0])
        references.append(reference)
    return references


def unlike_norm() -> BatchNorm:
    norm = BatchNorm(len(COUNTS), WIDTH)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2, generator=torch.Generator().manual_seed(1))
        norm.bias.uniform_(-1, 1, generator=torch.Generator().manual_seed(2))
    return norm


def test_batch_norm_equals_torchs_on_the_rows_that_count_in_values_and_gradients() -> None:
    norm = unlike_norm()
    x, mask = masked_rows(0)
    x.requires_grad_()
    found = norm(x, mask)
    (found.sin() * mask).sum().backward()
    assert x.grad is not None
    assert norm.weight.grad is not None
    assert norm.bias.grad is not None
    for k, (count, reference) in enumerate(zip(COUNTS, torch_norms(norm), strict=True)):
        own = x[k, :count].detach().clone().requires_grad_()
        wanted = reference(own)
        wanted.sin().sum().backward()
        close = {"atol": 1e-5, "rtol": 1e-4}
        torch.testing.assert_close(found[k, :count], wanted, **close)
        torch.testing.assert_close(x.grad[k, :count], own.grad, **close)
        torch.testing.assert_close(norm.weight.grad[k, 0], reference.weight.grad, **close)
        torch.testing.assert_close(norm.bias.grad[k, 0], reference.bias.grad, **close)
        assert not x.grad[k, count:].any()


def test_batch_norms_running_statistics_and_evaluation_equal_torchs_at_the_corrected_momentum() -> (
    None
):
    norm = unlike_norm()
    references = torch_norms(norm)
    for step in range(6):
        x, mask = masked_rows(step)
        norm(x, mask)
        for k, (count, reference) in enumerate(zip(COUNTS, references, strict=True)):
            reference.momentum = 0.1 / (1 - 0.9 ** (step + 1))
            reference(x[k, :count])
            assert reference.running_mean is not None
            assert reference.running_var is not None
            torch.testing.assert_close(norm.running_mean[k, 0], reference.running_mean)
            torch.testing.assert_close(norm.running_var[k, 0], reference.running_var)
    x, _ = masked_rows(9)
    for k, reference in enumerate(references):
        torch.testing.assert_close(norm(x, None)[k], reference.eval()(x[k]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_fold_without_rows_or_with_one_leaves_its_statistics_alone(rows: int) -> None:
    norm = BatchNorm(2, WIDTH)
    norm(*_two_folds(rows=6))
    mean, var = norm.running_mean.clone(), norm.running_var.clone()
    out = norm(*_two_folds(rows=rows))
    assert torch.isfinite(out[:, :rows]).all()
    assert torch.equal(norm.running_mean[1], mean[1])
    assert torch.equal(norm.running_var[1], var[1])
    assert not torch.equal(norm.running_mean[0], mean[0])


def test_the_running_statistics_are_the_weighted_mean_of_the_batches_and_hold_no_start() -> None:
    norm = BatchNorm(1, 2)
    batches = [
        5 + torch.randn(1, 40, 2, generator=torch.Generator().manual_seed(k)) for k in (1, 2, 3)
    ]
    for x in batches:
        norm(x, torch.ones(1, 40, 1))
    weights = torch.tensor([0.81, 0.9, 1.0]) / 2.71
    for name, reduce in (("running_mean", torch.mean), ("running_var", torch.var)):
        wanted = sum(w * reduce(x[0], 0) for w, x in zip(weights, batches, strict=True))
        torch.testing.assert_close(getattr(norm, name)[0, 0], wanted)


def test_each_fold_counts_its_own_batches_and_none_of_one_row() -> None:
    norm = BatchNorm(2, WIDTH)
    for rows in (6, 1, 0, 6):
        norm(*_two_folds(rows=rows))
    assert norm.steps.tolist() == [4, 2]
    assert "steps" not in norm.state_dict()  # models of earlier versions load as they are


@pytest.mark.parametrize("task", ["multimodal", "dbt"])
def test_statistics_after_a_step_are_those_of_its_batch(task: str) -> None:
    """Both ways of training a head: a stack, and the written-out steps of one fold."""
    training = begin(prepared(task), task, batch_size=28)
    next(iter(training))
    norms = [m for m in training.network.modules() if isinstance(m, BatchNorm)]
    assert norms
    steps = [-(-len(order.labels) // 28) for order in training.batches.orders]
    assert all(norm.steps.tolist() == steps for norm in norms)


def _two_folds(*, rows: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(2, 6, WIDTH, generator=torch.Generator().manual_seed(rows))
    mask = torch.ones(2, 6, 1)
    mask[1, rows:] = 0
    return x, mask


# -- chance and layers -----------------------------------------------------------------------


def test_a_folds_draws_depend_on_its_own_seed_alone() -> None:
    stack, alone = RandomStreams([11, 12, 13]), RandomStreams([12])
    assert torch.equal(stack.uniform(4, 5)[1], alone.uniform(4, 5)[0])
    stack.kept(9, 5, 0.5)  # draws that the fold alone does not make
    for streams in (stack, alone):
        streams.begin(7)
    first = stack.kept(4, 3, 0.5)
    assert torch.equal(first[1], alone.kept(4, 3, 0.5)[0])
    assert not torch.equal(first[1], stack.kept(4, 3, 0.5)[1])
    assert not torch.equal(first[1], first[0])


def test_masks_of_a_row_do_not_depend_on_how_many_rows_a_neighbour_has() -> None:
    beside, alone = RandomStreams([12, 13], rows=16), RandomStreams([12], rows=16)
    for most, own in ((11, 10), (16, 16), (7, 3)):
        wide, narrow = beside.kept(most, 5, 0.4), alone.kept(own, 5, 0.4)
        assert torch.equal(wide[0, :own], narrow[0])


def test_a_kept_share_is_the_rate_to_within_chance_and_neighbouring_draws_are_unrelated() -> None:
    streams = RandomStreams([3])
    kept = streams.kept(1000, 400, 0.3)[0].double()
    assert kept.mean().item() == pytest.approx(0.7, abs=4 * (0.21 / 4e5) ** 0.5)
    centred = (kept - kept.mean()).flatten()
    for apart in (1, 2, 3, 4, 400):
        related = (centred[apart:] * centred[:-apart]).mean().item() / 0.21
        assert abs(related) < 4 / 4e5**0.5
    assert streams.kept(50, 50, 0.0).all()


def test_dropout_zeroes_its_share_keeps_the_mean_and_does_nothing_in_evaluation() -> None:
    dropout = Dropout(RandomStreams([1, 2]), 0.4)
    x = torch.ones(2, 200, 200)
    out = dropout(x)
    assert out.unique().tolist() == [0.0, pytest.approx(1 / 0.6)]
    assert (out == 0).float().mean().item() == pytest.approx(0.4, abs=0.01)
    assert torch.equal(dropout.eval()(x), x)
    assert torch.equal(Dropout(RandomStreams([1, 2]), 0.0)(x), x)


def test_linear_layers_are_torchs_fold_by_fold() -> None:
    layer = Linear(RandomStreams([1, 2]), 6, 3)
    x = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    assert layer.bias is not None
    for k in range(2):
        wanted = nn.functional.linear(x[k], layer.weight[k].T, layer.bias[k, 0])
        torch.testing.assert_close(layer(x)[k], wanted)
    assert layer.weight.abs().max() <= 6**-0.5
    assert layer.weight.abs().max() > 0.8 * 6**-0.5


# -- optimiser -------------------------------------------------------------------------------


def net(seeds: list[int]) -> nn.Module:
    streams = RandomStreams(seeds)
    return nn.ModuleList([Linear(streams, 4, 3), Linear(streams, 3, 2)])


def loss_of(module: nn.Module, step: int, folds: list[int]) -> Tensor:
    """A loss whose gradients differ by fold and step, summed over the folds."""
    total = torch.zeros(())
    for parameter in module.parameters():
        for at, k in enumerate(folds):
            streams = torch.Generator().manual_seed(100 * step + k)
            slope = torch.randn(parameter.shape[1:], generator=streams) * 10 ** (k - 1)
            total = total + (parameter[at] * slope).sum() + parameter[at].square().sum()
    return total


@pytest.mark.parametrize("decoupled", [True, False])
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_the_optimiser_equals_torchs_step_by_step(decoupled: bool, clip_norm: float | None) -> None:
    stack = net([1, 2, 3])
    alone = [net([seed]) for seed in (1, 2, 3)]
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    references = [kind(m.parameters(), lr=1.0, weight_decay=0.1, eps=EPS) for m in alone]
    optimiser = StackedAdam(stack, weight_decay=0.1, decoupled=decoupled, clip_norm=clip_norm)
    for step in range(12):
        rate = 1e-2 / (1 + step)
        loss_of(stack, step, [0, 1, 2]).backward()
        optimiser.step(rate, torch.ones(3, dtype=torch.bool))
        for k, (module, reference) in enumerate(zip(alone, references, strict=True)):
            reference.zero_grad()
            loss_of(module, step, [k]).backward()
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(module.parameters(), clip_norm)
            reference.param_groups[0]["lr"] = rate
            reference.step()
            for mine, torchs in zip(stack.parameters(), module.parameters(), strict=True):
                torch.testing.assert_close(mine[k], torchs[0], atol=1e-6, rtol=1e-5)


def test_a_fold_whose_epoch_is_over_keeps_weights_and_moments() -> None:
    stack = net([1, 2, 3])
    optimiser = StackedAdam(stack, weight_decay=0.1, decoupled=True, clip_norm=1.0)
    every = torch.ones(3, dtype=torch.bool)
    for step in range(3):
        loss_of(stack, step, [0, 1, 2]).backward()
        optimiser.step(1e-2, every)
    kept = deepcopy(state(optimiser))
    for step in range(3, 6):
        loss_of(stack, step, [0, 1, 2]).backward()
        optimiser.step(1e-2, torch.tensor([True, False, True]))
    for before, now in zip(kept, state(optimiser), strict=True):
        assert torch.equal(before[1], now[1])
        assert not torch.equal(before[0], now[0])
        assert not torch.equal(before[2], now[2])


def test_gradients_are_gone_after_a_step_also_of_folds_that_did_not_take_it() -> None:
    stacks = [net([1, 2]) for _ in range(2)]
    first, second = (
        StackedAdam(stack, weight_decay=0.0, decoupled=True, clip_norm=None) for stack in stacks
    )
    loss_of(stacks[0], 0, [0, 1]).backward()
    first.step(1e-2, torch.tensor([False, False]))
    for stack, optimiser in zip(stacks, (first, second), strict=True):
        loss_of(stack, 1, [0, 1]).backward()
        optimiser.step(1e-2, torch.tensor([True, True]))
    for one, other in zip(state(first), state(second), strict=True):
        assert all(map(torch.equal, one, other))


def test_nothing_moves_where_no_fold_takes_a_step() -> None:
    stack = net([1, 2])
    optimiser = StackedAdam(stack, weight_decay=0.1, decoupled=True, clip_norm=None)
    kept = deepcopy(state(optimiser))
    loss_of(stack, 1, [0, 1]).backward()
    optimiser.step(1e-2, torch.tensor([False, False]))
    for before, now in zip(kept, state(optimiser), strict=True):
        assert all(map(torch.equal, before, now))


def state(optimiser: StackedAdam) -> tuple[Sequence[Tensor], ...]:
    """Weights and moments, each by fold."""
    return optimiser.values, optimiser.means, optimiser.squares, optimiser.steps


def forward_loss(layers: nn.Module, step: int, times: int = 1) -> Tensor:
    """A loss that reaches the weights through the layers' products, each used ``times`` times."""
    assert isinstance(layers, nn.ModuleList)
    streams = torch.Generator().manual_seed(step)
    total = torch.zeros(())
    for _ in range(times):
        x = torch.randn(3, 7, 4, generator=streams)
        for layer in layers:
            x = torch.tanh(layer(x))
        total = total + x.square().sum()
    return total


@pytest.mark.parametrize("times", [1, 2])
def test_a_products_gradient_reaches_the_optimiser_as_autograds_would(times: int) -> None:
    """Once and twice in a step, over several backward passes, in steps that leave it out, and
    beside a gradient that comes by another way."""
    stack, plain = net([1, 2, 3]), net([1, 2, 3])
    optimiser = StackedAdam(stack, weight_decay=0.1, decoupled=True, clip_norm=0.5)
    every = torch.ones(3, dtype=torch.bool)
    for step in range(6):
        plain.load_state_dict(stack.state_dict())
        plain.zero_grad()
        losses = [forward_loss, loss_of][: 1 + step % 2] if step != 3 else [loss_of]
        for module in (stack, plain):
            for loss in losses:
                given = times if loss is forward_loss else [0, 1, 2]
                loss(module, step, given).backward()  # type: ignore[operator]
        if step == 4:
            forward_loss(stack, 9).backward()
            forward_loss(plain, 9).backward()
        wanted = [p.grad for p in plain.parameters() if p.grad is not None]
        found = torch.cat([g.reshape(3, -1) for g in wanted], dim=1)
        torch.testing.assert_close(optimiser.gradients, found, atol=1e-6, rtol=1e-5)
        optimiser.step(1e-2, every)
    assert optimiser.means.abs().sum() > 0


def test_the_parameters_of_the_module_are_what_the_optimiser_moves() -> None:
    block = StackedBlock(RandomStreams([1, 2]), 4, 3, 0.0)
    optimiser = StackedAdam(block, weight_decay=0.0, decoupled=True, clip_norm=None)
    before = [parameter.detach().clone() for parameter in block.parameters()]
    x = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    block(x, torch.ones(2, 6, 1)).square().sum().backward()
    optimiser.step(1e-2, torch.ones(2, dtype=torch.bool))
    for was, now in zip(before, block.parameters(), strict=True):
        assert not torch.equal(was, now)
    assert optimiser.values.shape == (2, sum(p[0].numel() for p in block.parameters()))


@pytest.mark.parametrize(("restarts", "fresh"), [(False, [0]), (True, [0, 10, 30])])
def test_the_learning_rate_falls_by_a_cosine_and_restarts_where_it_should(
    restarts: bool, fresh: list[int]
) -> None:
    task = "multimodal" if restarts else "dbt"
    recipe = begin(prepared(task), task).recipe
    rates = [recipe.rate(done, 60) for done in range(60)]
    top = recipe.learning_rate
    assert [done for done, rate in enumerate(rates) if rate == pytest.approx(top)] == fresh
    assert min(rates) >= 0.01 * top
    falls = [b < a for a, b in pairwise(rates)]
    assert [done + 1 for done, fell in enumerate(falls) if not fell] == fresh[1:]
    assert recipe.rate(5, 10) == pytest.approx(top * (0.01 + 0.99 * 0.5))


@pytest.mark.parametrize("task", ["multimodal", "dbt"])
def test_a_model_of_several_networks_predicts_the_mean_of_each(task: str) -> None:
    rows = prepared(task)
    training = begin(rows, task)
    train(training)
    features = rows.train.features
    alone = [training.fitted(k).predict(features) for k in (0, 2)]
    both = training.fitted(0, 2)
    assert both.networks == 2
    np.testing.assert_allclose(both.predict(features), np.mean(alone, axis=0), atol=1e-6)
    np.testing.assert_allclose(both.predict_each(features), alone, atol=1e-6)
    assert np.abs(alone[0] - alone[1]).max() > 1e-3


def test_each_network_reads_columns_as_the_rows_of_its_own_fold_encode_them() -> None:
    rows = prepared("multimodal")
    training = begin(rows, "multimodal")
    train(training)
    features = rows.train.features
    both = training.fitted(0, 2)
    assert both.columns.each == (rows.folds[0].encoder, rows.folds[2].encoder)
    swapped = replace(both, columns=NetworkColumns(both.columns.each[::-1]))
    assert np.abs(swapped.predict(features) - both.predict(features)).max() > 1e-6
    again = training.fitted(0, 0)
    assert again.columns.each == (rows.folds[0].encoder,)
