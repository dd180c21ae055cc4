"""What was seen inside a run's models: records, and the blocks of the page made of them."""

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
    "is not a cause, not an outline of a lesion, and no evidence that the model is right for the "
    "right reason. Every image is explained by the models of the outer fold that did not train "
    "on it or on its patient, and the score recomputed from its pixels is the one in "
    "predictions.csv."
)
_SCALE = (
    "Heat begins above an even share and ends at twice that or, where it is more, at the map's "
    "peak: a map without heat weighs all places alike."
)
METHODS = {
    "Grad-CAM": "Grad-CAM: the encoder's last feature map, each channel weighted by how much the "
    "log-odds of the class that was called rise with it; what speaks against that class is not "
    "shown. Heat is the part of the map's own maximum, so that the hottest place of a map says "
    "nothing of how hot it is. Maps are coarse, 7 x 7 cells for most encoders at 224 pixels "
    "(Selvaraju et al. 2017).",
    "attention roll-out": "Attention roll-out: which share of each patch reaches what the head "
    "reads, through all layers of the transformer and, where the head pools patches, its own "
    "weights. It does not depend on the class (Abnar & Zuidema 2020). " + _SCALE,
    "attention pooling": "Attention pooling: the weights by which the head pools the image's 16 "
    "spatial tokens, the mean over its heads. They do not depend on the class. " + _SCALE,
}
"""By what heat maps are called: how they come about, in a reader's words."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A case with its pictures.

    Attributes:
        image: (s, s, 3) as the encoder sees it.
        heat: (s, s) in [0, 1], of ``METHODS``' own scale.
        method: a key of ``METHODS``.
        peak: of weights, the largest over an even share; None for Grad-CAM.
    """

    case: Case
    image: NDArray[np.uint8]
    heat: NDArray[np.float32]
    method: str
    peak: float | None


@dataclass(frozen=True, eq=False)
class Inside:
    """All that the page shows.

    Attributes:
        contribution: of ``outerfold.reports.explain.importance``; None where there is nothing to
            take away.
        networks: how many are averaged.
        several_repeats: the run tested each row more than once; cases are of the first.
    """

    run: Run
    shown: tuple[Shown, ...]
    contribution: Json | None
    networks: int
    several_repeats: bool = False

    def of(self, label: int) -> list[Shown]:
        """The cases of one class."""
        return [shown for shown in self.shown if shown.case.label == label]


def figure_name(inside: Inside, label: int) -> str:
    """``Figure_Inside_Cancer``; classes that would share a name are numbered."""
    slugs = [re.sub(r"\W+", "_", name).strip("_") for name in inside.run.classes]
    plain_name = slugs[label].title() if slugs[label].islower() else slugs[label]
    lowered = [slug.lower() for slug in slugs]
    twice = lowered.count(lowered[label]) > 1 or not plain_name
    return f"Figure_Inside_{plain_name}" + (f"_{label + 1}" if twice else "")


def picture(inside: Inside, numbers: Json, label: int) -> Picture:
    """Caption and reading of one class's figure."""
    shown, classes = inside.of(label), inside.run.classes
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
        f"Top: called {classes[label]} with the largest probability. Middle: called otherwise with "
        f"the largest probability. Bottom: those left that are {borderline}. No row shows a "
        "patient twice. Left the image at the size the encoder sees, right its heat map, brighter "
        "where it is hotter. "
        f"Shown: {plural(patients, 'patient')}, {plural(images, 'image')}, chosen from outer test "
        f"rows of {sample_size(numbers, 'tested')}; {finished_folds(numbers)}. Chosen cases are no "
        "sample: nothing about how often the model looks where can be read off them.",
    )


def opening(inside: Inside, numbers: Json) -> list[Block]:
    """What must be read before any picture."""
    used = dict.fromkeys(one.method for one in inside.shown)
    first = " Of several repeats, the first is shown." if inside.several_repeats else ""
    return [
        *(
            Paragraph(f"{mark}. {_STAMPS[mark]}" if mark in _STAMPS else mark, strong=True)
            for mark in stamps(numbers)
        ),
        Paragraph(READING),
        Paragraph(
            f"{explained(inside)}Outer test rows only: {sample_size(numbers, 'tested')}; "
            f"{finished_folds(numbers)}.{first}"
        ),
        *(Paragraph(METHODS[method]) for method in used),
        Paragraph(RESEARCH_ONLY),
    ]


def explained(inside: Inside) -> str:
    """Sentences on what is averaged in the score and in its map; none where nothing is."""
    networks, tta = inside.networks, int(str(inside.run.protocol.get("tta", 0)))
    found = ""
    if networks > 1:
        found += f"The explained score is that of the mean of {networks} networks. "
    if networks > 1 and inside.run.protocol.get("trainable_blocks", 0):
        found += (
            "Each of them trained its own last blocks of the encoder: Grad-CAM adds up their last "
            "maps, roll-out and pooling weights are means over them. "
        )
    if tta:
        found += (
            f"The score is the mean over the image and {plural(tta, 'augmented view')} of it, and "
            "the heat map is of the untouched image. "
        )
    return found


_STAMPS = {"SYNTHETIC DATA": "No image or number here is of people."}


def contribution_blocks(inside: Inside, numbers: Json) -> list[Block]:
    """The table, or in words why there is none."""
    heading = Heading("What image and columns are worth")
    if inside.contribution is None:
        return [
            heading,
            Paragraph(
                "These models read images alone, without clinical columns: there is nothing to "
                "weigh the image against, and without it no score is left."
            ),
        ]
    return [heading, contribution_table(inside.contribution, stamps(numbers))]


def case_table(inside: Inside, numbers: Json) -> Table:
    """Every case by its full id; a last column only where heat maps need a word each."""
    classes = inside.run.classes
    alike = {described(one) for one in inside.shown} == {"Grad-CAM"}
    rows = tuple(
        (
            classes[one.case.label],
            one.case.kind,
            one.case.id,
            one.case.patient,
            one.case.fold,
            called(one.case, classes).removeprefix("called "),
            *(() if alike else (described(one),)),
        )
        for one in inside.shown
    )
    marks = "".join(f" [{mark}]" for mark in stamps(numbers))
    return Table(
        f"The cases{marks}",
        ("Class", "Kind", "Image", "Patient", "Fold", "Called", *(() if alike else ("Heat map",))),
        rows,
        (
            "Fold: whose model tested the image and explains it. Probabilities are calibrated, of "
            "one image each; they carry no interval.",
        ),
    )


def called(case: Case, classes: tuple[str, ...]) -> str:
    """``called other: p(cancer) 0.21 < 0.41``, or the two largest of several classes."""
    name = f"called {classes[case.predicted]}"
    if case.threshold is not None:
        digits = 3 if case.kind == "borderline" else 2
        share = f"p({classes[1]}) {number(case.probabilities[1], digits)}"
        sign = "≥" if case.predicted else "<"
        return f"{name}: {share} {sign} {number(case.threshold, digits)}"
    order = sorted(range(len(classes)), key=lambda c: -case.probabilities[c])[:2]
    shares = ", ".join(f"{classes[c]} {number(case.probabilities[c])}" for c in order)
    return f"called {shares}"


def described(one: Shown) -> str:
    """``Grad-CAM``, or the method with its peak; says where nothing is hot."""
    if one.peak is not None:
        return f"{one.method}, peak {number(one.peak, 1)}× even"
    return one.method if float(one.heat.max()) > 0 else f"{one.method}: nothing speaks for it"


def inside_numbers(inside: Inside, numbers: Json) -> Json:
    """The contents of ``inside.json`` (schema 1)."""
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


def sections(inside: Inside) -> Iterator[int]:
    """Classes that have a figure."""
    return (label for label in range(len(inside.run.classes)) if inside.of(label))
