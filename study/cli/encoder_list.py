"""Table of the encoders that are known to work, for `--encoder list`."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from outerfold.pipelines.encoders._base import TOKEN_GRID
from outerfold.pipelines.encoders.catalogue import KNOWN, describe_weights
from outerfold.pipelines.encoders.registry import own_models

REMARKS = (
    f"Width: length of an image's embedding. Tokens: number of tokens (the feature map averaged to "
    f"{TOKEN_GRID} x {TOKEN_GRID}), times the length of each. Size: side of the image, in pixels. "
    "Any timm model that has a last feature map or square patches can be named as timm:NAME; "
    "--weights FILE replaces the download. With several, as in --encoder A,B, the search chooses "
    "one."
)


def show_encoders(console: Console) -> int:
    """Print the table of encoders; return the exit code."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for head in ("Encoder", "Family", "Width", "Tokens", "Size", "Weights"):
        table.add_column(head, no_wrap=True)
    for known in KNOWN:
        kept = f"{TOKEN_GRID**2} x {known.token_width}"
        table.add_row(
            known.name,
            known.family,
            str(known.width),
            kept,
            str(known.side),
            describe_weights(known),
        )
    for name in own_models():
        table.add_row(name, name.partition(":")[0], "", "", "", "plugin")
    console.print(table)
    console.print(REMARKS)
    return 0
