"""A checkpoint of the hub: what is small first, then only the weights that it names."""

from __future__ import annotations

import glob
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.errors import GemmaError
from runtime.needs import needs

from ..model.config import parse_config
from ..read_json import read_json
from .other_kinds import ADAPTER, refuse_other, refuse_without_tokenizer
from .weight_files import INDEX, WHOLE, weight_names

if TYPE_CHECKING:
    from huggingface_hub import HfApi

# Names of the top level: other folders hold older checkpoints, or the same weights in another layout.
SMALL = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja", ADAPTER, INDEX,
)  # fmt: skip


def download(hub_id: str) -> Path:
    """The folder in the hub's cache; what is there already is not fetched again.

    Raises GemmaError for what the hub says, and, before any weights are fetched, for what is not a Gemma that can
    be exported.
    """
    needs("huggingface_hub", "hub", f"there is no folder {hub_id}, and downloading it")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError

    try:
        return fetched(HfApi(), hub_id)
    except GemmaError:
        raise
    except GatedRepoError as error:
        raise GemmaError(
            f"there is no folder {hub_id}, and on the hub it is gated",
            f"accept its terms at {HfApi().endpoint}/{hub_id}, then log in with: hf auth login",
        ) from error
    except Exception as error:  # the hub's, the network's and the system's errors have no common class
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise GemmaError(
            f"there is no folder {hub_id}, and the hub says: {reason}",
            "check the id and the network; a broken download continues where it stopped",
        ) from error


def fetched(hub: HfApi, hub_id: str) -> Path:
    folder = Path(hub.snapshot_download(hub_id, allow_patterns=list(SMALL)))
    commit = folder.name  # of all that follows, whatever is pushed meanwhile
    if not (folder / "config.json").is_file():
        refuse(hub, hub_id, folder, "config.json")
    raw = read_json(folder, "config.json")
    parse_config(raw, hub_id)
    if not (folder / "tokenizer.json").is_file():
        refuse_without_tokenizer(hub_id)
    get = partial(hub.hf_hub_download, hub_id, revision=commit)
    said = str(raw.get("transformers_weights") or "")
    if said.endswith(".json"):
        get(said)
    elif not said and has(get, WHOLE, folder):
        return folder
    names = weight_names(folder, raw)
    if names == [WHOLE]:
        refuse(hub, hub_id, folder, WHOLE)
    hub.snapshot_download(hub_id, revision=commit, allow_patterns=[glob.escape(name) for name in names])
    return folder


def has(get: Callable[..., Any], name: str, folder: Path) -> bool:
    """Whether a file is there, which is fetched then.  Without a network, an index in the cache says that it is not."""
    from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

    try:
        get(name)
    except RemoteEntryNotFoundError:
        return False
    except LocalEntryNotFoundError:
        if not (folder / INDEX).is_file():
            raise
        return False
    return True


def refuse(hub: HfApi, hub_id: str, folder: Path, missing: str) -> None:
    """Raises GemmaError: what the repository holds instead, by all its names."""
    paths = [path.partition("/") for path in hub.list_repo_files(hub_id, revision=folder.name)]
    refuse_other(folder, {first + slash for first, slash, _ in paths}, missing)
