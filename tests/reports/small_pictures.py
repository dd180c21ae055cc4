"""Small pictures in place of a report's figures, for tests of what is around them."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from outerfold.reports import drawing, write


def draw_small(patch: pytest.MonkeyPatch) -> None:
    """Let each picture be a small grey square, and each vector graphic of a submission empty."""
    picture = BytesIO()
    Image.new("RGB", (40, 30), "grey").save(picture, "JPEG")
    patch.setattr(drawing, "render", lambda *_, **__: picture.getvalue())
    patch.setattr(write, "draw_page", lambda *_, **__: picture.getvalue())
    patch.setattr(drawing, "render_inline", lambda *_, **__: (picture.getvalue(), ""))
    patch.setattr(drawing, "vectors", lambda *_, **__: {"svg": b"", "pdf": b""})
