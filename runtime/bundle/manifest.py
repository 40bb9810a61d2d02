"""`bundle.json`: everything an application needs to know of a bundle, as types.

FORMAT.md describes each field.  Unknown fields are ignored, so that a minor version may add some;
a missing or mistyped one is refused with its path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

MAJOR, MINOR = 1, 1

Kind = Literal["sliding", "full"]
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 24)]  # bounds what a hostile bundle can ask for
Length = Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]
Word = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}\Z")]  # names of parts, kinds, functions
Whole = Annotated[int, msgspec.Meta(ge=-(1 << 53), le=1 << 53)]  # what every language reads exactly
Numbers = Annotated[list[Whole | float], msgspec.Meta(max_length=1024)]
Setting = bool | Whole | float | str | Numbers
MOST_PARTS, MOST_FUNCTIONS, MOST_SETTINGS = 64, 64, 256


class File(msgspec.Struct, frozen=True, kw_only=True):
    size: int
    sha256: str


class Rope(msgspec.Struct, frozen=True, kw_only=True):
    """Rotary positions of one kind of layer: angle(position, pair) = position * frequency[pair]."""

    theta: float
    head_dim: Length
    rotated_pairs: Count  # the other pairs have frequency zero


class Cache(msgspec.Struct, frozen=True, kw_only=True):
    """One layer that owns keys and values: (1, kv_heads, rows, head_dim) each."""

    layer: Count
    kind: Kind
    kv_heads: Length
    head_dim: Length
    dtype: Literal["float32", "int8"]


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    family: str
    layers: Length
    own_kv_layers: Length
    hidden_size: Length
    vocab_size: Length
    per_layer_dim: Count  # 0: the model has no per-layer embeddings
    window: Length
    context: Length
    softcap: float  # 0: none
    rescored: Count  # best logits that are computed again from the token rows; 0: none
    caches: list[Cache]
    sources: list[int]  # the layer whose keys and values each layer reads
    rope: dict[str, Rope]
    parameters: dict[str, int]
    static_ranges: bool | None = None  # whether linears round activations as they were trained to; None: not said


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A row file, and the factor its values are multiplied by."""

    file: str
    multiplier: float


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    bos: int
    stop: list[int]
    do_sample: bool = True
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    dtype: str
    shape: list[int | str]


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that the engine of an artifact takes; zeros: not known."""

    weights: int = 0  # resident once loaded
    loading: int = 0  # more, while it loads
    token: int = 0  # for each token of a call
    score: int = 0  # for each token of a call and each position that it sees
    row: Count = 0  # for each position that a call sees, as far as `rows`
    rows: Count = 0


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """One lowered graph: what to load, what to feed, what comes out."""

    file: str
    data: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    operators: dict[str, int]
    memory: Memory = Memory()
    context: Count = 0  # most positions; 0: the model's
    functions: dict[str, int] = {}  # tokens of a call, by name, if there are several
    states: list[Tensor] = []  # keys and values that the engine owns; none: the host does, as `caches` say
    scale_error: float = 0.0  # most that a scale had to move, of itself
    kleidiai: bool = True  # whether onnxruntime may use KleidiAI on ARM, which rounds activations by row

    @property
    def weights(self) -> str:
        """Name the file that holds the weights."""
        return self.data or self.file


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the decoder's own program: an ExecuTorch method, or a Core ML function."""

    name: Word
    inputs: list[Tensor]
    outputs: list[Tensor]


Functions = Annotated[list[Function], msgspec.Meta(max_length=MOST_FUNCTIONS)]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A graph beside the decoder, as a vision tower or a drafter: how each target runs it, and what a host must know.

    A target runs it as an artifact of its own, or, where the engine owns state that both need, as functions of the
    decoder's program.
    """

    kind: Word  # the contract that its inputs, outputs and settings follow
    artifacts: dict[str, Artifact] = {}  # by target
    functions: dict[str, Functions] = {}  # of the decoder's program, by target
    settings: Annotated[dict[Word, Setting], msgspec.Meta(max_length=MOST_SETTINGS)] = {}
    golden: str = ""  # calls to repeat

    def used(self) -> set[str]:
        """Return the names of files that a field points to."""
        named = {self.golden}
        for artifact in self.artifacts.values():
            named |= {artifact.file, artifact.data}
        return named - {""}


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What the integers were fitted to; sha256 of the ids as int64."""

    method: Literal["none", "quick", "gptq"] = "none"
    text: str = ""
    tokens: int = 0
    seed: int = 0
    sha256: str = ""


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    summary: str
    rules: list[list[str]]
    loss: dict[str, float]
    calibration: Calibration = Calibration()


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    checkpoint: str
    tool: str
    peak_rss_bytes: int = 0


Parts = Annotated[dict[Word, Part], msgspec.Meta(max_length=MOST_PARTS)]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    format: Literal["gemma-edge"]
    version: list[int]
    model: ModelFacts
    recipe: Recipe
    provenance: Provenance
    generation: Generation
    tables: dict[str, Table]
    artifacts: dict[str, Artifact]
    files: dict[str, File]
    tokenizer: str
    vocabulary: str = ""
    chat_template: str = ""
    special_tokens: dict[str, str] = {}  # texts that the template reads by these names: "eos_token", "pad_token"
    golden: str = ""
    parity: str = ""
    parts: Parts = {}  # graphs beside the decoder, by name; since 1.1

    @property
    def lost_ranges(self) -> bool:
        """Say whether the ranges of a release were dropped, as exporters did that are silent about them.

        Only a release that is stored as it is has a head of which nothing is computed again.
        """
        as_released = self.recipe.name == "as-released" and self.model.rescored == 0
        return as_released and self.model.static_ranges is None

    def used(self) -> set[str]:
        """Return the names of files that a field points to."""
        named = {self.tokenizer, self.vocabulary, self.chat_template, self.golden, self.parity}
        named |= {table.file for table in self.tables.values()}
        for artifact in self.artifacts.values():
            named |= {artifact.file, artifact.data}
        for part in self.parts.values():
            named |= part.used()
        return named - {""}


def version_of(parts: Mapping[str, Part]) -> list[int]:
    """Return the least version that can say what a bundle holds: without parts it is one of 1.0, byte for byte."""
    return [MAJOR, 1 if parts else 0]


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """The part that is read first, so that a later format is named as such."""

    format: str
    version: list[int]
