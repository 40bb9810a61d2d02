"""Damaged, truncated, future and forged bundles: what is done to a sound one, and the words that refuse it.

The Python suite and the applications read the same cases.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import onnx

from runtime.bundle.bundle import MANIFEST, SEAL, describe, seal_of, sha256
from runtime.bundle.manifest import File
from runtime.bundle.row_table import HEADER, START, RowFormat

FILES = [
    MANIFEST,
    SEAL,
    "chat_template.jinja",
    "golden.json",
    "onnx/decoder.data",
    "onnx/decoder.onnx",
    "parity.json",
    "tables/per_layer.rows",
    "tables/tokens.rows",
    "tokenizer.json",
    "vocabulary.bin",
]
Stage = Literal["open", "load", "chat", "verify", ""]
ALL = ("run", "bench", "verify", "inspect")
LOADING = ("run", "bench", "verify")


@dataclass(frozen=True)
class Case:
    """damage: done to a copy; words: in the sentence that refuses it
    commands: which of Python's refuse it; app: where an application does, "" if it does not look
    """

    name: str
    damage: Callable[[Path], object]
    words: tuple[str, ...]
    commands: tuple[str, ...] = ALL
    app: Stage = "open"


def put(path: Path, raw: bytes) -> None:
    """A new file: the old one may be linked from elsewhere."""
    path.unlink(missing_ok=True)
    path.write_bytes(raw)


def flip(path: Path, at: int, bit: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1 << bit
    put(path, bytes(raw))


def reseal(folder: Path, change: Callable[[dict[str, Any]], object] = lambda manifest: None) -> None:
    """All sizes and hashes right again, as one who forges a bundle would; `change` edits the manifest."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).unlink()
    (folder / SEAL).unlink()
    manifest["files"] = msgspec.to_builtins(describe(folder))
    change(manifest)
    write_manifest(folder, json.dumps(manifest).encode())


def write_manifest(folder: Path, raw: bytes) -> None:
    put(folder / MANIFEST, raw)
    put(folder / SEAL, seal_of(raw))


def resealed(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    return lambda folder: reseal(folder, change)


def replaced(name: str, raw: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        put(folder / name, raw)
        reseal(folder)

    return damage


def set_model(**values: object) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest["model"].update(values)


# ---- files that are not whole ----


def flipped(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        flip(folder / name, (folder / name).stat().st_size // 2, 1)

    return damage


def removed(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def truncated(name: str, kept: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        raw = (folder / name).read_bytes()
        put(folder / name, raw[: -1 if kept < 0 else int(kept * len(raw))])

    return damage


def folder_in_place(folder: Path) -> None:
    (folder / "golden.json").unlink()
    (folder / "golden.json").mkdir()


def files() -> Iterator[Case]:
    for name in FILES:
        yield Case(f"flipped {name}", flipped(name), ())
        for kept in (0, 0.5, -1):
            yield Case(f"truncated {kept} {name}", truncated(name, kept), ())
        if name != MANIFEST:
            yield Case(f"missing {name}", removed(name), (name,))
    yield Case("a folder in place of a file", folder_in_place, ("golden.json: missing",))


# ---- names and links ----

NAMES = ["../x", "a/../../x", "/etc/hostname", "..", "", "./x", "a//x", ".hidden", "a\\x", "a\n"]


def named(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        outside = folder.parent / "x"
        outside.write_bytes(b"outside")
        entry = msgspec.to_builtins(File(size=7, sha256=sha256(outside)))
        reseal(folder, lambda manifest: manifest["files"].update({name: entry}))

    return damage


def linked(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        outside = folder.with_name(f"{folder.name} outside")
        (folder / name).rename(outside)
        (folder / name).symlink_to(os.path.relpath(outside, folder))

    return damage


def link_to(target: str) -> Callable[[Path], None]:
    """tokenizer.json as a link."""

    def damage(folder: Path) -> None:
        (folder / "tokenizer.json").unlink()
        (folder / "tokenizer.json").symlink_to(target)

    return damage


def external(location: str, *, link: bool) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        outside = folder.parent / "outside.data"
        if not outside.exists():
            shutil.copyfile(folder / "onnx/decoder.data", outside)
        where = str(outside.resolve()) if location == "absolute" else location
        if link:
            (folder / "onnx" / "linked.data").symlink_to(where)
            where = "linked.data"
        model = onnx.load(folder / "onnx/decoder.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = where
        put(folder / "onnx/decoder.onnx", model.SerializeToString())
        reseal(folder, lambda manifest: manifest["files"].pop("onnx/linked.data", None))

    return damage


def places() -> Iterator[Case]:
    for name in NAMES:
        yield Case(f"name {name!r}", named(name), (f"{name!r} is not a name inside the bundle",))
    # Python follows a link to what the manifest describes; the applications follow none.
    yield Case("link tokenizer.json", linked("tokenizer.json"), ("tokenizer.json", "leads out of the bundle"), ())
    yield Case("link tables", linked("tables"), ("tables", "leads out of the bundle"))
    yield Case("link to nothing", link_to("no such file"), ("tokenizer.json: ",))
    yield Case("link to itself", link_to("tokenizer.json"), ("tokenizer.json: ",))
    yield Case("link to a folder", link_to("tables"), ("tokenizer.json: ",))
    yield Case("link to a device", link_to("/dev/zero"), ("tokenizer.json: ",))
    yield Case("link to another file", link_to("golden.json"), ("tokenizer.json",))
    for location in ("../../outside.data", "absolute"):
        for link in (False, True):
            name = f"external data {location} {'linked' if link else 'named'}"
            yield Case(name, external(location, link=link), ("onnxruntime cannot load it",), LOADING, "load")


# ---- manifests ----

OTHER = {"int8": "float32", "float32": "int8"}
MISFITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "huge vocabulary": set_model(vocab_size=10**15),
    "one more token": lambda manifest: manifest["model"].update(vocab_size=manifest["model"]["vocab_size"] + 1),
    "wide": set_model(hidden_size=10**6),
    "one layer": set_model(layers=1),
    "many own": set_model(own_kv_layers=100),
    "no per-layer": set_model(per_layer_dim=0),
    "window below": set_model(window=-1),
    "window above": set_model(window=10**12),
    "no context": set_model(context=0),
    "no caches": set_model(caches=[]),
    "no rope": set_model(rope={}),
    "other caches": lambda manifest: [c.update(dtype=OTHER[c["dtype"]]) for c in manifest["model"]["caches"]],
    "wide caches": lambda manifest: [c.update(head_dim=2 * c["head_dim"]) for c in manifest["model"]["caches"]],
    "no tables": lambda manifest: manifest.update(tables={}),
    "no artifacts": lambda manifest: manifest.update(artifacts={}),
}
BEYOND = ("huge vocabulary", "window below", "window above", "no context")  # no reader takes such a size
WRONG: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no generation": (lambda manifest: manifest.pop("generation"), "`generation`"),
    "other format": (lambda manifest: manifest.update(format="other"), "format"),
    "version of text": (lambda manifest: manifest.update(version="1"), "version"),
    "layers of text": (set_model(layers="seven"), "$.model.layers"),
    "no hash": (lambda manifest: manifest["files"].update({"x": {"size": 1}}), "$.files"),
    "unlisted tokenizer": (lambda manifest: manifest.update(tokenizer="x.json"), "'x.json' is used but not listed"),
    "unlisted rows": (
        lambda manifest: manifest["tables"]["tokens"].update(file="../x"),
        "'../x' is used but not listed",
    ),
    "unlisted data": (lambda manifest: manifest["artifacts"]["onnx"].update(data="x"), "'x' is used but not listed"),
}
NO_MANIFESTS = [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000]


def manifests() -> Iterator[Case]:
    for version in ([2, 0], [17], [2]):
        raw = json.dumps({"format": "gemma-edge", "version": version, "news": {}}).encode()
        shown = f"format {'.'.join(map(str, version))}"
        yield Case(f"version {version}", partial(write_manifest, raw=raw), (shown, "upgrade gemma-edge"))
    for name, change in MISFITS.items():
        yield Case(f"misfit: {name}", resealed(change), ("hint: ",), ("run",), "open" if name in BEYOND else "load")
    for name, (change, word) in WRONG.items():
        yield Case(f"wrong: {name}", resealed(change), (MANIFEST, word))
    for index, raw in enumerate(NO_MANIFESTS):
        yield Case(f"no manifest {index}", partial(write_manifest, raw=raw), (MANIFEST,))
    tokenizer = resealed(lambda manifest: manifest.update(tokenizer="golden.json"))
    yield Case("another file as tokenizer", tokenizer, ("hint: ",), ("run",), "")
    vocabulary = resealed(lambda manifest: manifest.update(vocabulary="golden.json"))
    yield Case("another file as vocabulary", vocabulary, ("not a compact vocabulary",), ("verify",), "load")
    without = resealed(lambda manifest: manifest.update(vocabulary=""))
    yield Case("no vocabulary", without, ("no compact vocabulary",), (), "load")


# ---- parts ----

FUNCTION = {"name": "draft", "inputs": [], "outputs": []}


def with_part(name: str = "extra", **fields: object) -> Callable[[dict[str, Any]], object]:
    """The manifest of 1.1 with a part that runs the decoder's graph; `fields` are added to it, or take the place."""

    def change(manifest: dict[str, Any]) -> None:
        part = {"kind": "echo", "artifacts": {"onnx": manifest["artifacts"]["onnx"]}, **fields}
        manifest.update(version=[1, 1], parts={**manifest.get("parts", {}), name: part})

    return change


def with_graph(file: str, **entries: dict[str, object]) -> Callable[[dict[str, Any]], object]:
    """A part whose graph is another file; `entries` are added to the files."""

    def change(manifest: dict[str, Any]) -> None:
        with_part(artifacts={"onnx": manifest["artifacts"]["onnx"] | {"file": file}})(manifest)
        manifest["files"].update(entries)

    return change


def without_kind(manifest: dict[str, Any]) -> None:
    with_part()(manifest)
    del manifest["parts"]["extra"]["kind"]


def many_parts(manifest: dict[str, Any]) -> None:
    manifest.update(parts={f"part{index}": {"kind": "echo"} for index in range(100_000)})


def said_twice(folder: Path) -> None:
    reseal(folder, with_part("other"))
    raw = (folder / MANIFEST).read_bytes()
    write_manifest(folder, raw.replace(b'"parts": {', b'"parts": {"other": {"kind": "first"}, ', 1))


ELSEWHERE: dict[str, dict[str, object]] = {"../x": {"size": 7, "sha256": "0" * 64}}
NOWHERE: dict[str, dict[str, object]] = {"parts/x.onnx": {"size": 7, "sha256": "0" * 64}}
PARTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "unlisted graph": (with_graph("parts/x.onnx"), "'parts/x.onnx' is used but not listed"),
    "missing graph": (with_graph("parts/x.onnx", **NOWHERE), "x.onnx: missing"),
    "graph outside": (with_graph("../x", **ELSEWHERE), "'../x' is not a name inside the bundle"),
    "unlisted golden": (with_part(golden="parts/golden.json"), "'parts/golden.json' is used but not listed"),
    "function of nothing": (with_part(functions={"nowhere": [FUNCTION]}), "'nowhere'"),
    "function beside an artifact": (with_part(functions={"onnx": [FUNCTION]}), "an artifact and functions of 'onnx'"),
    "function twice": (with_part(artifacts={}, functions={"onnx": [FUNCTION] * 2}), "a function of 'onnx' twice"),
    "function with a line break": (with_part(functions={"onnx": [FUNCTION | {"name": "a\n"}]}), "parts"),
    "function without outputs": (with_part(functions={"onnx": [{"name": "draft", "inputs": []}]}), "outputs"),
    "functions of text": (with_part(functions={"onnx": ["draft"]}), "parts"),
    "many functions": (with_part(artifacts={}, functions={"onnx": [FUNCTION] * 65}), "parts"),
    "no kind": (without_kind, "`kind`"),
    "kind of numbers": (with_part(kind=1), "kind"),
    "kind with a blank": (with_part(kind="a b"), "kind"),
    "artifact of text": (with_part(artifacts={"onnx": "parts/x.onnx"}), "parts"),
    "a list": (lambda manifest: manifest.update(parts=[]), "parts"),
    "a part of text": (lambda manifest: manifest.update(parts={"extra": "echo"}), "parts"),
    "many": (many_parts, "parts"),
    "name with a line break": (with_part("extra\n"), "parts"),
    "name with a zero": (with_part("ex\0tra"), "parts"),
    "empty name": (with_part(""), "parts"),
    "long name": (with_part("a" * 65), "parts"),
    "setting of an object": (with_part(settings={"size": {"rows": 1}}), "settings"),
    "setting of null": (with_part(settings={"size": None}), "settings"),
    "setting of texts": (with_part(settings={"sizes": ["1"]}), "settings"),
    "large setting": (with_part(settings={"size": 1 << 60}), "settings"),
    "long setting": (with_part(settings={"sizes": [0] * 1025}), "settings"),
    "many settings": (with_part(settings={f"size{index}": 1 for index in range(257)}), "settings"),
    "setting with a line break": (with_part(settings={"size\n": 1}), "settings"),
}


def parts() -> Iterator[Case]:
    for name, (change, word) in PARTS.items():
        yield Case(f"part: {name}", resealed(change), (word,))
    yield Case("part: said twice", said_twice, ("twice",))


# ---- contents ----

GRAPHS = [b"", b"not a graph", b"\x08\x0a" * 1000]
GOLDEN = {"prompt": [5], "ids": [7], "top_ids": [[7]], "top_logits": [[1.0]]}
PROVES_NOTHING: list[list[dict[str, Any]]] = [
    [],
    [GOLDEN | {"prompt": []}],
    [GOLDEN | {"ids": []}],
    [GOLDEN | {"top_ids": [[]], "top_logits": [[]]}],
    [GOLDEN | {"top_ids": [[7, 8]]}],
    [GOLDEN | {"top_ids": [[10**6]]}],
    [GOLDEN | {"ids": [-1]}],
]
TEMPLATES = [
    b"\xff",
    b"{% if",
    b"{{ 1 / 0 }}",
    b"{{ messages[9].content }}",
    b"{{ ''.__class__.__mro__[1].__subclasses__() }}",
]
LYING_VOCABULARIES = [
    (0, b"GEMROWS1", "not a compact vocabulary"),
    (12, b"\xff" * 4, "which is wrong for"),
    (40, b"\xff" * 4, "corrupt vocabulary"),
]
HEADERS: list[Callable[[RowFormat], bytes]] = [
    lambda form: b"GEMROWS2".ljust(START, b"\0"),
    lambda form: b"",
    lambda form: RowFormat(10**6, 1, form.dim, 32, 0).header(),
    lambda form: RowFormat(form.rows, 1, form.dim, 4, 1).header(),
    lambda form: RowFormat(form.rows, 1, 0, 32, 0).header(),
    lambda form: RowFormat(form.rows, 1, form.dim, 31, 0).header(),
    lambda form: RowFormat(form.rows, 2, form.dim // 2, form.bits, form.scales).header(),  # as many bytes
]


def lying_rows(header: Callable[[RowFormat], bytes]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "tables/tokens.rows"
        raw = path.read_bytes()
        form = RowFormat.parse(raw[: HEADER.size], path, len(raw))
        put(path, header(form) + raw[START:])
        reseal(folder)

    return damage


def overwritten(name: str, at: int, value: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        raw = (folder / name).read_bytes()
        put(folder / name, raw[:at] + value + raw[at + len(value) :])
        reseal(folder)

    return damage


def contents() -> Iterator[Case]:
    for index, raw in enumerate(GRAPHS):
        damage = replaced("onnx/decoder.onnx", raw)
        yield Case(f"no graph {index}", damage, ("onnxruntime cannot load it",), LOADING, "load")
    for index, header in enumerate(HEADERS):
        yield Case(f"lying rows {index}", lying_rows(header), (), LOADING, "load")
    for index, prompts in enumerate(PROVES_NOTHING):
        raw = json.dumps({"tolerance": 1e9, "prompts": prompts}).encode()
        yield Case(f"golden {index}", replaced("golden.json", raw), ("golden",), ("verify",), "verify")
    for index, raw in enumerate(TEMPLATES):
        damage = replaced("chat_template.jinja", raw)
        yield Case(f"template {index}", damage, ("template",), ("run",), "chat")
    for at, value, word in LYING_VOCABULARIES:
        damage = overwritten("vocabulary.bin", at, value)
        yield Case(f"vocabulary {at}", damage, (word,), ("verify",), "load")


CASES = [*files(), *places(), *manifests(), *parts(), *contents()]
