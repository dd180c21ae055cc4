"""Pipeline of the two-class task: a frozen image embedding joined with clinical columns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from outerfold.pipelines.heads.networks import FusionNetwork, Standardise, Widths
from outerfold.pipelines.heads.random_streams import RandomStreams
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.pipelines.training.heads import Recipe, StackedTraining

GRADIENT_NORM = 1.0
"""Largest norm of the gradient; larger gradients are clipped to it."""


@dataclass(frozen=True)
class MultimodalPipeline:
    """Network image + columns (64-64-32) -> 128 -> 32 -> 1.

    It is trained by AdamW with cosine warm restarts and gradient clipping at 1. ``attention`` fuses
    image and columns by four-head self-attention instead of concatenating them. Every training
    image is augmented in ``augmented_views`` views of strength ``augmentation``. ``encoder`` names
    the image encoder. ``focal_gamma`` is ``Recipe.gamma``, and the other fields have their names in
    ``Recipe``.
    """

    learning_rate: float
    dropout: float
    focal_gamma: float
    sampler: str
    attention: bool
    weight_decay: float = 1e-2
    batch_size: int = 64
    label_smoothing: float = 0.1
    ens_beta: float = 0.0
    augmented_views: int = 0
    augmentation: str = "light"
    encoder: str = ""

    @property
    def tokens(self) -> bool:
        """False, since this task reads pooled embeddings."""
        return False

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
            decoupled=True,
            restarts=True,
            clip_norm=GRADIENT_NORM,
            strength=self.augmentation,
            every_row=True,
        )

    def start(self, rows: TrainingRows, *, budget: int, seed: int, device: str) -> StackedTraining:
        """Begin training; see ``Pipeline.start``."""
        return StackedTraining(
            self.recipe, self.network, rows, budget=budget, seed=seed, device=device
        )

    def network(self, streams: RandomStreams, widths: Widths, scaler: Standardise) -> nn.Module:
        """Return a stack of untrained heads, one for each seed of ``streams``."""
        return FusionNetwork(
            streams, widths, scaler, dropout=self.dropout, attention=self.attention
        )
