"""Pipeline that trains a task's head and the last blocks of the encoder as one network."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from outerfold.pipelines.heads.networks import Standardise, Widths
from outerfold.pipelines.heads.random_streams import RandomStreams
from outerfold.pipelines.images.activations import TailRows
from outerfold.pipelines.rows.training_rows import TrainingRows
from outerfold.pipelines.tasks.dbt import DbtPipeline
from outerfold.pipelines.tasks.multimodal import MultimodalPipeline
from outerfold.pipelines.training.micro_batches import MicroBatches
from outerfold.pipelines.training.tail_fold import TailRecipe
from outerfold.pipelines.training.tails import TailTraining


@dataclass(frozen=True)
class TailPipeline:
    """Pipeline of a task that also trains the encoder's tail: its last blocks, or all of it.

    Attributes:
        head: pipeline of the head, with all hyper-parameters that do not concern the tail.
        tail_rate: learning rate of the tail divided by that of the head.
        strength: strength of the random changes of whole images, in [0, 1]; 0 where stored
            activations are read.
        checkpointing: see ``outerfold.pipelines.encoders.divide.Tail``.
        micro: changes of the micro-batch size in an earlier run of the same training, each
            (epoch, fold, step, rows).
    """

    head: DbtPipeline | MultimodalPipeline
    tail_rate: float
    strength: float = 0.0
    checkpointing: bool = False
    micro: tuple[tuple[int, ...], ...] = ()

    @property
    def tokens(self) -> bool:
        """Whether images are read as spatial tokens."""
        return self.head.tokens

    @property
    def encoder(self) -> str:
        """Name of the image encoder; empty where the study has only one."""
        return self.head.encoder

    @property
    def batch_size(self) -> int:
        """Number of training rows in a batch."""
        return self.head.batch_size

    def start(self, rows: TrainingRows, *, budget: int, seed: int, device: str) -> TailTraining:
        """Begin training; see ``Pipeline.start``.

        Raises:
            TypeError: the rows' source has no activations.
        """
        source: TailRows = rows.source  # type: ignore[assignment]
        if not hasattr(source, "activations"):
            raise TypeError(f"a tail reads activations, but {type(source).__name__} has none")
        recipe = TailRecipe(self.head.recipe, self.tail_rate, self.strength, self.checkpointing)
        return TailTraining(
            recipe,
            self.network,
            rows,
            source,
            budget=budget,
            seed=seed,
            device=device,
            micro=MicroBatches.again(self.micro),
        )

    def network(self, streams: RandomStreams, widths: Widths, scaler: Standardise) -> nn.Module:
        """Return a stack of untrained heads, without the tails."""
        return self.head.network(streams, widths, scaler)
