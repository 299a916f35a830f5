"""From preset, file and flags to one validated config."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from schemas.config import JobConfig
from schemas.settings import Tree, load_settings, merged, preset_names

__all__ = ["Tree", "load_config", "merged", "presets"]
_PACKAGE = "beam_pipeline"


def presets() -> list[str]:
    """The names that `--preset` takes."""
    return preset_names(_PACKAGE)


def load_config(preset: str | None, file: str | Path | None, flags: Tree, settings: Iterable[str]) -> JobConfig:
    """Merge, later over earlier: defaults, the preset, the file, the flags, `--set` settings.

    Args:
        preset: a name of `presets()`.
        file: a YAML file with (part of) the tree, local or gs://.
        flags: (part of) the tree from command-line flags.
        settings: `path.to.field=value` texts, the value in YAML.

    Raises:
        UserError: naming the preset, file or field, and what would be right.
    """
    return load_settings(JobConfig, _PACKAGE, preset, file, flags, settings)
