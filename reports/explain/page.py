"""Page of ``outerfold explain``: its records, and the blocks made from them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outerfold.reports.blocks import Block, Heading, Paragraph, Picture, Table
from outerfold.reports.explain.cases import Case
from outerfold.reports.explain.importance import contribution_table
from outerfold.reports.results.results import to_json_types
from outerfold.reports.schema import Results
from outerfold.reports.wording import (
    RESEARCH_ONLY,
    Json,
    finished_folds,
    number,
    plural,
    sample_size,
    stamps,
)
from outerfold.storage.records import Run

SCHEMA = 1
TABLE = "Table_Inside_Contribution"
READING = (
    "A heat map shows where in the image the score is sensitive, for one image and one model. It "
    "does not show a cause, it does not outline a lesion, and it is no evidence that the model is "
    "right for the right reason. Every image is explained by the models of the outer fold that did "
    "not train on it or on its patient, and the score recomputed from its pixels is the score in "
    "predictions.csv."
)
PREDICTED = "predicted "
"""First word of a decision's text."""
_SCALE = (
    "Heat begins above an even share and ends at twice an even share, or at the map's peak if that "
    "is higher: a map without heat gives all places the same weight."
)
METHODS = {
    "Grad-CAM": "Grad-CAM: the encoder's last feature map, with each channel weighted by how much "
    "it raises the log-odds of the predicted class; evidence against that class is not shown. Heat "
    "is a fraction of the map's own maximum, so heat cannot be compared between maps. Maps are "
    "coarse, 7 x 7 cells for most encoders at 224 pixels (Selvaraju et al. 2017).",
    "attention roll-out": "Attention roll-out: the share of each patch in the input of the head, "
    "through all layers of the transformer and, if the head pools patches, through the head's own "
    "weights. It does not depend on the class (Abnar & Zuidema 2020). " + _SCALE,
    "attention pooling": "Attention pooling: the weights with which the head pools the image's 16 "
    "spatial tokens, averaged over its attention heads. They do not depend on the class. " + _SCALE,
}
"""Explanation of each heat-map method for a reader, by name of the method."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A case with its image and its heat map.

    Attributes:
        image: (s, s, 3) in 0..255, as the encoder sees it.
        heat: (s, s) in [0, 1], on the scale that ``METHODS`` explains.
        method: a key of ``METHODS``.
        peak: largest weight divided by an even share; None for Grad-CAM, which has no weights.
    """

    case: Case
    image: NDArray[np.uint8]
    heat: NDArray[np.float32]
    method: str
    peak: float | None


@dataclass(frozen=True, eq=False)
class Inside:
    """Everything that the page shows.

    Attributes:
        shown: the cases with their heat maps.
        contribution: result of ``outerfold.reports.explain.importance``; None for models that read
            only images.
        networks: number of networks that are averaged.
        several_repeats: whether the run tested each row more than once; the cases then come from
            the first repeat.
    """

    run: Run
    shown: tuple[Shown, ...]
    contribution: Json | None
    networks: int
    several_repeats: bool = False

    def number_of(self, case: Case) -> int:
        """Running number of a case."""
        return [one.case for one in self.shown].index(case) + 1

    def person_of(self, case: Case) -> str:
        """Running number of a case's patient."""
        people = list(dict.fromkeys(one.case.patient for one in self.shown))
        return f"patient {people.index(case.patient) + 1}"

    def cases_of(self, label: int) -> list[Shown]:
        """Cases of one class."""
        return [shown for shown in self.shown if shown.case.label == label]


def figure_name(inside: Inside, label: int) -> str:
    """Name of a class's figure, such as ``Figure_Inside_Cancer``; equal names are numbered."""
    slugs = [re.sub(r"\W+", "_", name).strip("_") for name in inside.run.classes]
    plain_name = slugs[label].title() if slugs[label].islower() else slugs[label]
    lowered = [slug.lower() for slug in slugs]
    twice = lowered.count(lowered[label]) > 1 or not plain_name
    return f"Figure_Inside_{plain_name}" + (f"_{label + 1}" if twice else "")


def case_picture(inside: Inside, numbers: Results, label: int) -> Picture:
    """Caption and description of one class's figure."""
    shown, classes = inside.cases_of(label), inside.run.classes
    marks = "".join(f" [{mark}]" for mark in stamps(numbers))
    patients = len({one.case.patient for one in shown})
    images = len({one.case.id for one in shown})
    borderline = (
        "nearest to their fold's threshold"
        if len(classes) == 2
        else "with the smallest gap between the two largest probabilities"
    )
    return Picture(
        figure_name(inside, label),
        f"Figure {label + 1}. Images of class {classes[label]} and where the score is "
        f"sensitive.{marks}",
        f"Top: images predicted as {classes[label]} with the largest probability. Middle: images "
        f"predicted as another class with the largest probability. Bottom: of the other images, "
        f"those {borderline}. No row shows a patient twice. Left: the image at the size that the "
        "encoder sees. Right: its heat map, brighter where it is hotter. "
        f"Shown: {plural(patients, 'patient')}, {plural(images, 'image')}, chosen from outer test "
        f"rows of {sample_size(numbers, 'tested')}; {finished_folds(numbers)}. The cases were "
        "chosen and are not a random sample, so they do not show how often the model looks at a "
        "place.",
    )


def opening_blocks(inside: Inside, numbers: Results) -> list[Block]:
    """Blocks to read before any picture: stamps, how to read the maps, methods."""
    used = dict.fromkeys(one.method for one in inside.shown)
    first = " The first of several repeats is shown." if inside.several_repeats else ""
    return [
        *(
            Paragraph(f"{mark}. {_STAMPS[mark]}" if mark in _STAMPS else mark, strong=True)
            for mark in stamps(numbers)
        ),
        Paragraph(READING),
        Paragraph(
            f"{averaging_sentences(inside)}Outer test rows only: {sample_size(numbers, 'tested')}; "
            f"{finished_folds(numbers)}.{first}"
        ),
        *(Paragraph(METHODS[method]) for method in used),
        Paragraph(RESEARCH_ONLY),
    ]


def averaging_sentences(inside: Inside) -> str:
    """Sentences on what is averaged in the score and in the heat map; empty if nothing is."""
    networks, tta = inside.networks, int(str(inside.run.protocol.get("tta", 0)))
    found = ""
    if networks > 1:
        found += f"The explained score is that of the mean of {networks} networks. "
    if networks > 1 and inside.run.protocol.get("trainable_blocks", 0):
        found += (
            "Each of them trained its own last blocks of the encoder: Grad-CAM adds up their last "
            "feature maps; roll-out and pooling weights are means over the networks. "
        )
    if tta:
        found += (
            f"The score is the mean over the image and {plural(tta, 'augmented view')} of it; the "
            "heat map is that of the image without augmentation. "
        )
    return found


_STAMPS = {"SYNTHETIC DATA": "No image or number here is about people."}


def contribution_blocks(inside: Inside, numbers: Results) -> list[Block]:
    """Table of the contribution, or a sentence on why there is none."""
    heading = Heading("Contribution of the image and the columns")
    if inside.contribution is None:
        return [
            heading,
            Paragraph(
                "These models read only images and no clinical columns. So the contribution of the "
                "image cannot be compared with anything: without the image there is no score."
            ),
        ]
    return [heading, contribution_table(inside.contribution, stamps(numbers))]


def case_table(inside: Inside, numbers: Results) -> Table:
    """Table of all cases under running numbers, whose names are in ``inside.json``.

    It has a column on the heat maps only if they need a remark each.
    """
    classes = inside.run.classes
    alike = {heat_map_text(one) for one in inside.shown} == {"Grad-CAM"}
    rows = tuple(
        (
            classes[one.case.label],
            one.case.kind,
            str(inside.number_of(one.case)),
            inside.person_of(one.case),
            one.case.fold,
            decision_text(one.case, classes).removeprefix(PREDICTED),
            *(() if alike else (heat_map_text(one),)),
        )
        for one in inside.shown
    )
    marks = "".join(f" [{mark}]" for mark in stamps(numbers))
    return Table(
        f"The cases{marks}",
        (
            *("Class", "Kind", "Case", "Patient", "Fold", "Predicted"),
            *(() if alike else ("Heat map",)),
        ),
        rows,
        (
            "Fold: the outer fold whose model tested and explains the image. Each probability is "
            "calibrated and is for one image; it has no interval. Cases and patients have running "
            "numbers; inside.json has their names.",
        ),
    )


def decision_text(case: Case, classes: tuple[str, ...]) -> str:
    """Decision such as ``predicted other: p(cancer) 0.21 < 0.41``.

    For several classes it gives the two largest probabilities.
    """
    name = f"{PREDICTED}{classes[case.predicted]}"
    if case.threshold is not None:
        digits = 3 if case.kind == "borderline" else 2
        share = f"p({classes[1]}) {number(case.probabilities[1], digits)}"
        sign = "≥" if case.predicted else "<"
        return f"{name}: {share} {sign} {number(case.threshold, digits)}"
    order = sorted(range(len(classes)), key=lambda c: -case.probabilities[c])[:2]
    shares = ", ".join(f"{classes[c]} {number(case.probabilities[c])}" for c in order)
    return f"{PREDICTED}{shares}"


def heat_map_text(one: Shown) -> str:
    """Remark on a heat map: its method, with the peak of weights, or that nothing is hot."""
    if one.peak is not None:
        return f"{one.method}, peak {number(one.peak, 1)}× even"
    return one.method if float(one.heat.max()) > 0 else f"{one.method}: no evidence for it"


def inside_numbers(inside: Inside, numbers: Results) -> Json:
    """Contents of ``inside.json`` (schema 1)."""
    found: Json = to_json_types(
        {
            "schema": SCHEMA,
            "run": inside.run.name,
            "task": inside.run.task,
            "synthetic_data": inside.run.synthetic,
            "reading": READING,
            "tested": {key: numbers["tested"][key] for key in ("patients", "images")},
            "networks": inside.networks,
            **{key: inside.run.protocol.get(key, 0) for key in ("trainable_blocks", "tta")},
            "cases": [_case_entry(inside, one) for one in inside.shown],
            "contribution": inside.contribution,
        }
    )
    return found


def _case_entry(inside: Inside, one: Shown) -> dict[str, Any]:
    classes, case = inside.run.classes, one.case
    return {
        "case": inside.number_of(case),
        "class": classes[case.label],
        "kind": case.kind,
        "id": case.id,
        "patient": case.patient,
        "fold": case.fold,
        "predicted": classes[case.predicted],
        "threshold": case.threshold,
        "probabilities": dict(zip(classes, case.probabilities, strict=True)),
        "method": one.method,
        "peak": one.peak,
    }


def classes_with_figure(inside: Inside) -> Iterator[int]:
    """Indices of the classes that have a figure."""
    return (label for label in range(len(inside.run.classes)) if inside.cases_of(label))
