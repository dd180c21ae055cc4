"""The version of outerfold itself."""

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    """Of outerfold as installed; a plain checkout has none."""
    try:
        return version("outerfold")
    except PackageNotFoundError:
        return "(checkout)"
