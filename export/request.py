"""What an export was asked for, in words that another process understands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantize.recipe import Recipe

from .calibrate.amounts import TextAmounts
from .choose_recipe import choose_recipe
from .prove.runs import ProofSettings

if TYPE_CHECKING:
    from .calibrate.text import Text
    from .checkpoint.checkpoint import Checkpoint


@dataclass(frozen=True)
class ExportSettings:
    """What can be set of an export besides its recipe; the defaults are what ships.

    text: how much text calibrates; proof: how much of a text the artifacts are compared on
    """

    text: TextAmounts = TextAmounts()
    proof: ProofSettings = ProofSettings()


AS_SHIPPED = ExportSettings()


@dataclass(frozen=True)
class Request:
    """A checkpoint's folder or hub id, targets, and what --recipe and --calibrate say."""

    source: str
    targets: tuple[str, ...]
    recipe: str | None
    calibrate: str | None
    settings: ExportSettings = AS_SHIPPED

    def opened(self) -> tuple[Checkpoint, Recipe, Text]:
        """The checkpoint, its recipe, and the text that calibrates.  Imports torch.

        Raises GemmaError as `Checkpoint.open`, `choose_recipe` and `Text.of`.
        """
        from .calibrate.text import AUTO, Text
        from .checkpoint.checkpoint import Checkpoint

        checkpoint = Checkpoint.open(self.source)
        recipe = choose_recipe(checkpoint, self.recipe, self.calibrate)
        return checkpoint, recipe, Text.of(self.calibrate or "auto") if recipe.calibrated else AUTO
