"""How much text calibrates, and how much memory the model that writes it may keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TextAmounts:
    """Lengths in tokens; the defaults are what ships.

    written_for_*: that the model writes: mean squares need fewer than outer products
    sequence: of one sequence that it writes: many short ones share each reading of the weights
    window: of a file that is read; windows_for_*: how many of them
    layer_bytes: of layers that stay in memory while the model writes; the others are read at each step
    """

    written_for_quick: int = 4_096
    written_for_gptq: int = 16_384
    sequence: int = 128
    window: int = 512
    windows_for_quick: int = 32
    windows_for_gptq: int = 128
    layer_bytes: int = 3 << 28

    def written(self, method: Literal["none", "quick", "gptq"]) -> int:
        """The most tokens that the model writes."""
        return self.written_for_gptq if method == "gptq" else self.written_for_quick

    def read(self, method: Literal["none", "quick", "gptq"]) -> int:
        """The most tokens of a file that are read."""
        return self.window * (self.windows_for_gptq if method == "gptq" else self.windows_for_quick)
