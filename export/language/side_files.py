"""What a bundle takes from a checkpoint besides its weights: tokenizer, template, generation defaults."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer as Pieces

from runtime.bundle.manifest import Generation
from runtime.errors import GemmaError
from runtime.language.tokenizer import read_pieces

from ..checkpoint.checkpoint import Checkpoint
from ..checkpoint.other_kinds import refuse_without_tokenizer
from .chat_template import chat_template, not_taken
from .generation_defaults import generation_defaults, not_done
from .special_tokens import special_tokens
from .stop_tokens import sentence, stop_tokens

TOKENIZER, TEMPLATE = "tokenizer.json", "chat_template.jinja"
NO_TEMPLATE = "there is no chat template: the bundle goes on with a raw prompt and knows no conversations"


@dataclass(frozen=True)
class SideFiles:
    """What is read besides the tokenizer, checked; `notes` are lines that a person should read."""

    folder: Path
    generation: Generation
    special_tokens: dict[str, str]
    template: str | None  # None for a base model
    notes: tuple[str, ...]

    def print_notes(self) -> None:
        """One line each on standard error."""
        for note in self.notes:
            print(f"note: {note}", file=sys.stderr)

    def copy(self, folder: Path) -> tuple[str, str]:
        """Write tokenizer and chat template; their names, the latter empty for a base model."""
        shutil.copyfile(self.folder / TOKENIZER, folder / TOKENIZER)
        if self.template is None:
            return TOKENIZER, ""
        (folder / TEMPLATE).write_bytes(self.template.encode())
        return TOKENIZER, TEMPLATE


def read_side_files(checkpoint: Checkpoint) -> tuple[SideFiles, Pieces]:
    """Raises GemmaError for what would be refused after the long part of an export, or when the bundle is used."""
    folder = checkpoint.folder
    if not (folder / TOKENIZER).is_file():
        refuse_without_tokenizer(folder)
    pieces, tokens = read_pieces(folder / TOKENIZER), special_tokens(folder)
    generation = generation_defaults(folder, [])
    bos = {"bos_token": bos_text(pieces, generation.bos, checkpoint)}  # which every bundle's template is given
    template = chat_template(folder, bos | tokens)
    stops = stop_tokens(folder, pieces, tokens, template, checkpoint.config.vocab)
    notes = [sentence(stops), *([] if template else [NO_TEMPLATE])]
    if unknown := not_taken(folder):
        notes.append(f"chat templates that are not taken: {', '.join(unknown)}")
    if ignored := not_done(folder):
        notes.append(f"generation_config.json asks for {', '.join(ignored)}: answers will be without it")
    generation = generation_defaults(folder, [stop.id for stop in stops])
    return SideFiles(folder, generation, tokens, template, (*checkpoint.notes, *notes)), pieces


def bos_text(pieces: Pieces, bos: int, checkpoint: Checkpoint) -> str:
    """The text of the token that every prompt begins with.  Raises GemmaError for an id that is no token."""
    text = pieces.id_to_token(bos) if 0 <= bos < checkpoint.config.vocab else None
    if text is None:
        raise GemmaError(
            f"{checkpoint.folder}: bos_token_id {bos} is not a token of tokenizer.json",
            "correct it in generation_config.json, or in config.json",
        )
    return str(text)
