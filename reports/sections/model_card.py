"""Model card that accompanies the delivered model."""

from __future__ import annotations

from collections.abc import Iterable

from outerfold.reports.blocks import Block, Heading, Paragraph, Picture, Table
from outerfold.reports.paper.chosen import parameters_table
from outerfold.reports.results.results import results
from outerfold.reports.schema import FinalEntry, Results
from outerfold.reports.sections.final_model import (
    averaged_words,
    made_model,
    not_made,
    refitted_words,
)
from outerfold.reports.sections.level_tables import level_tables
from outerfold.reports.sections.page_one import headline
from outerfold.reports.sections.summary import (
    data_section,
    limit_section,
    optimism_section,
    stamp_paragraphs,
)
from outerfold.reports.sections.tables import overall_table, per_class_table
from outerfold.reports.wording import number, procedure_sentence, stamps, tta_sentence
from outerfold.storage.records import Run


def model_card(run: Run) -> str:
    """Text of ``final/MODEL_CARD.md``: the model, its intended use, its expected performance."""
    return model_card_text(results(run))


def model_card_text(numbers: Results) -> str:
    """As ``model_card``, from contents of ``results.json`` with the run's own protocol."""
    marks = "".join(f" [{mark}]" for mark in stamps(numbers))
    name = f"{numbers['provenance']['run']} ({numbers['task']})"
    return f"# Model card: {name}{marks}\n\n" + markdown(_sections(numbers))


def markdown(blocks: Iterable[Block]) -> str:
    """Markdown text of the blocks; pictures become links to their files."""
    return "\n".join(_block(block) for block in blocks).rstrip() + "\n"


def _sections(numbers: Results) -> list[Block]:
    return [
        *stamp_paragraphs(numbers),
        *_model(numbers),
        *_intended_use(),
        *data_section(numbers),
        Heading("Expected performance"),
        *headline(numbers),
        Paragraph(procedure_sentence(numbers)),
        *_tables(numbers),
        *optimism_section(numbers),
        *limit_section(numbers),
        *_provenance(numbers),
    ]


def _model(numbers: Results) -> list[Block]:
    final, protocol = numbers["final"], numbers["protocol"]
    if final is None:
        return [Heading("Model"), Paragraph(not_made(numbers))]
    classes = list(numbers["dataset"]["classes"])
    decision = (
        f"An image is classified as {classes[1]} if its calibrated probability of {classes[1]} is "
        f"at least {final['threshold']:.3f}"
        if final["threshold"] is not None
        else "An image is classified as the class with the largest probability"
    )
    return [
        Heading("Model"),
        Paragraph(
            f"Classes: {', '.join(classes)}. {_encoder(numbers)}, trainable blocks: "
            f"{protocol['trainable_blocks']}. {_training_words(numbers)} {decision}. "
            f"{_calibration_words(numbers)}{tta_sentence(numbers)}"
        ),
        *([parameters_table(numbers)] if final["made"] == "ensemble" else []),
    ]


def _training_words(numbers: Results) -> str:
    return (
        averaged_words(numbers)
        if made_model(numbers)["made"] == "ensemble"
        else refitted_words(numbers)
    )


def _calibration_words(numbers: Results) -> str:
    final = made_model(numbers)
    if final["made"] == "ensemble":
        return (
            "On the logit scale, the probabilities of each member are divided by its temperature"
            f"{', then moved by its shift' if final['threshold'] is not None else ''}."
        )
    chosen = ", ".join(f"{name} {_value_text(value)}" for name, value in final["params"].items())
    return (
        f"On the logit scale, probabilities are divided by the temperature "
        f"{final['temperature']:.3f}{_shift(final)}. The search chose: {chosen}."
    )


def _encoder(numbers: Results) -> str:
    """Encoders of the delivered model, or of an ensemble's members, with their weight hashes."""
    final = made_model(numbers)
    ensemble = final["made"] == "ensemble"
    chosen = [one["params"] for one in numbers["outer"]] if ensemble else [final["params"]]
    all_of_them = numbers["protocol"]["encoder"]
    names = dict.fromkeys(params.get("encoder", all_of_them) for params in chosen)
    each = "; ".join(_describe_encoder(name, numbers) for name in names)
    return f"{each}; each member uses the encoder that its search chose" if len(names) > 1 else each


def _describe_encoder(name: str, numbers: Results) -> str:
    found = numbers["provenance"].get("encoders", {}).get(name)
    if not found or not found["weights_sha256"]:
        return f"Encoder {name}"
    shape = {"pad": "padded to", "stretch": "stretched to"}[found["fit"]]
    cut = "cropped to the breast and " if found["crop"] == "breast" else ""
    return (
        f"Encoder {name}, weights with SHA-256 {found['weights_sha256']}, images {cut}{shape} "
        f"{found['image_size']} x {found['image_size']} pixels"
    )


def _shift(final: FinalEntry) -> str:
    return "" if final["threshold"] is None else f", then moved by {number(final['shift'], 3)}"


def _intended_use() -> list[Block]:
    return [
        Heading("Intended use"),
        Paragraph(
            "The model is for research on the images it was trained on and on similar images. It "
            "is not a medical device: not for diagnosis, screening, triage or any other clinical "
            "use. Its performance at other hospitals, on other scanners or in other populations is "
            "unknown."
        ),
    ]


def _tables(numbers: Results) -> list[Block]:
    if not numbers["overall"]:
        return []
    return [
        overall_table(numbers, "test"),
        *level_tables(numbers),
        per_class_table(numbers, "test"),
    ]


def _provenance(numbers: Results) -> list[Block]:
    source = numbers["provenance"]
    versions = ", ".join(f"{n} {version}" for n, version in source.get("versions", {}).items())
    return [
        Heading("Provenance"),
        Paragraph(
            f"Command: {'in provenance.json' if source.get('command') else 'not recorded'}. "
            f"Code: {source.get('git') or 'not under version control'}. "
            f"Versions: {versions or 'not recorded'}."
        ),
    ]


def _block(block: Block) -> str:
    match block:
        case Heading(text):
            return f"## {text}\n"
        case Paragraph(text, strong):
            return f"**{text}**\n" if strong else f"{text}\n"
        case Picture(name, caption):
            return f"![{caption}]({name}.jpg)\n"
        case Table():
            return _table(block)


def _table(table: Table) -> str:
    lines = [_cells(table.header), _cells(("---",) * len(table.header)), *map(_cells, table.rows)]
    notes = "".join(f"\n{note}\n" for note in table.notes)
    return f"**{table.caption}**\n\n" + "\n".join(lines) + f"\n{notes}"


def _cells(cells: tuple[str, ...]) -> str:
    inner = " | ".join(cell.replace("\n", " ").replace("|", "\\|") for cell in cells)
    return f"| {inner} |"


def _value_text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
