"""Every pipeline keeps the contract."""

from __future__ import annotations

import pytest

from pipelines._base import Pipeline
from pipelines.dbt import DbtPipeline
from pipelines.multimodal import MultimodalPipeline
from tests.contracts.pipeline_contract import PipelineContract


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
