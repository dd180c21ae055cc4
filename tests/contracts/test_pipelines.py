"""Every pipeline keeps the contract."""

from __future__ import annotations

import pytest

from outerfold.pipelines._base import Pipeline
from outerfold.pipelines.tasks.dbt import DbtPipeline
from outerfold.pipelines.tasks.multimodal import MultimodalPipeline
from outerfold.storage.records import Dataset
from tests.contracts.pipeline_contract import PipelineContract
from tests.factories import ArraySource
from tests.pipelines.training.tail_factories import tail_pipeline, with_tail


@pytest.mark.parametrize("attention", [False, True])
class TestDbt(PipelineContract):
    classes = ("normal", "actionable", "benign", "cancer")

    @pytest.fixture(autouse=True)
    def _with(self, attention: bool) -> None:
        self.attention = attention

    def make(self) -> Pipeline:
        return DbtPipeline(1e-3, 0.2, 2.0, "over", self.attention, augmented_views=1)


@pytest.mark.parametrize("attention", [False, True])
class TestMultimodal(PipelineContract):
    classes = ("other", "cancer")

    @pytest.fixture(autouse=True)
    def _with(self, attention: bool) -> None:
        self.attention = attention

    def make(self) -> Pipeline:
        return MultimodalPipeline(1e-3, 0.2, 0.5, "smote", self.attention)


class TailContract(PipelineContract):
    """A head that trains together with blocks of the encoder."""

    task: str

    @pytest.fixture(autouse=True)
    def _with(self, attention: bool) -> None:
        self.attention = attention

    def make(self) -> Pipeline:
        return tail_pipeline(self.task, attention=self.attention)

    def data(self) -> tuple[Dataset, ArraySource]:
        data, source = super().data()
        return data, with_tail(source)


@pytest.mark.parametrize("attention", [False, True])
class TestDbtWithATail(TailContract):
    task, classes = "dbt", ("normal", "actionable", "benign", "cancer")


@pytest.mark.parametrize("attention", [False, True])
class TestMultimodalWithATail(TailContract):
    task, classes = "multimodal", ("other", "cancer")
