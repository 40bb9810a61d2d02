"""What a bundle weighs."""

from __future__ import annotations

from .manifest import Manifest


def sizes(manifest: Manifest) -> dict[str, int]:
    """Return the bytes on disk, resident (the weights of the largest graph), and flash-mapped (the row files)."""
    mapped = sum(manifest.files[table.file].size for table in manifest.tables.values())
    resident = max(manifest.files[artifact.weights].size for artifact in manifest.artifacts.values())
    return {"disk": sum(f.size for f in manifest.files.values()), "resident": resident, "flash-mapped": mapped}
