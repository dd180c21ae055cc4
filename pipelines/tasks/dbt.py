"""Pipeline of the four-class task: an MLP on a frozen embedding or on attended spatial tokens."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from outerfold.pipelines.heads.networks import EmbeddingMLP, Standardise, Widths
from outerfold.pipelines.heads.random_streams import RandomStreams
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.pipelines.training.heads import Recipe, StackedTraining


@dataclass(frozen=True)
class DbtPipeline:
    """Network embedding -> 256 -> 128 -> classes, trained by Adam with one cosine descent.

    ``attention`` pools the encoder's spatial tokens by learnt attention instead of taking the
    encoder's pooled embedding. Images of minority classes are augmented in ``augmented_views``
    views of strength ``augmentation``. ``encoder`` names the image encoder. ``focal_gamma`` is
    ``Recipe.gamma``, and the other fields have their names in ``Recipe``.
    """

    learning_rate: float
    dropout: float
    focal_gamma: float
    sampler: str
    attention: bool
    weight_decay: float = 1e-4
    batch_size: int = 64
    label_smoothing: float = 0.0
    ens_beta: float = 0.0
    augmented_views: int = 0
    augmentation: str = "light"
    encoder: str = ""

    @property
    def tokens(self) -> bool:
        """Whether images are read as spatial tokens, which attention needs."""
        return self.attention

    @property
    def recipe(self) -> Recipe:
        """Settings of the head's training, alone or together with blocks of the encoder."""
        return Recipe(
            self.learning_rate,
            self.weight_decay,
            self.batch_size,
            self.focal_gamma,
            self.label_smoothing,
            self.ens_beta,
            self.sampler,
            self.augmented_views,
            decoupled=False,
            restarts=False,
            clip_norm=None,
            strength=self.augmentation,
            every_row=False,
        )

    def start(self, rows: TrainingRows, *, budget: int, seed: int, device: str) -> StackedTraining:
        """Begin training; see ``Pipeline.start``."""
        return StackedTraining(
            self.recipe, self.network, rows, budget=budget, seed=seed, device=device
        )

    def network(self, streams: RandomStreams, widths: Widths, scaler: Standardise) -> nn.Module:
        """Return a stack of untrained heads, one for each seed of ``streams``."""
        return EmbeddingMLP(streams, widths, scaler, dropout=self.dropout)
