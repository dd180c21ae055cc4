"""Small pictures in place of a report's figures, for tests of what is around them."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from outerfold.reports import write


def draw_small(patch: pytest.MonkeyPatch) -> None:
    """Let each figure and each picture of a table be a small grey square."""
    picture = BytesIO()
    Image.new("RGB", (40, 30), "grey").save(picture, "JPEG")
    for name in ("render", "draw_page"):
        patch.setattr(write, name, lambda *_, **__: picture.getvalue())
    patch.setattr(write, "render_inline", lambda *_, **__: (picture.getvalue(), ""))
