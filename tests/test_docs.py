"""The documents say what the code does: commands run, examples decode, tables and links hold."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import msgspec
import numpy as np
import pytest
import uvicorn

from export import targets
from export.model.capture import input_names, output_names
from export.model.config import parse_config
from quantize.affine import quantize
from quantize.recipe import RECIPES
from quantize.scheme import Scheme
from runtime.bundle import manifest
from runtime.bundle.manifest import Manifest
from runtime.bundle.parts import check_parts
from runtime.bundle.row_table import START, RowTable
from runtime.bundle.written import fields_of
from runtime.cli.main import COMMANDS, main
from tests import tiny
from tests.conftest import SAMPLE

ROOT = Path(__file__).parent.parent
SKIPPED = {"build", "node_modules"}
DOCUMENTS = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in SKIPPED for part in path.relative_to(ROOT).parts)
)
README = (ROOT / "README.md").read_text()
FORMAT = (ROOT / "runtime" / "FORMAT.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document, re.M | re.S)


def cells(document: str) -> list[list[str]]:
    """The rows of all tables."""
    lines = [line for line in document.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# ---- README.md ----

COMMANDS_SHOWN = [
    line for block in blocks(README, "sh") for line in block.splitlines() if line.startswith("gemma-edge")
]


@pytest.mark.slow
@pytest.mark.parametrize("line", COMMANDS_SHOWN)
def test_a_command_of_the_readme_runs(line, bundle, checkpoint, generated, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    words = shlex.split(line)[1:]
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join((SAMPLE.parent / "calls.jsonl").read_text().splitlines()[:3]))
    stand_ins = {
        "./my-gemma": SAMPLE,
        "my-gemma.bundle": bundle("sample", "int8"),
        "conversations.jsonl": few,
        "e2b": "e2b-tiny",
        "./generated-E2B": tmp_path / "generated",
        "./gemma-4-E2B-it": checkpoint("e2b"),
        "./gemma-4-E2B-it-qat-mobile-transformers": generated("e2b-qat-mobile-tiny"),
        "gemma-e2b.bundle": bundle("e2b"),
        "book.txt": ROOT / "CONTRIBUTING.md",
    }
    words = [str(stand_ins.get(word, word)) for word in words]
    if words[0] == "export":
        words = [*words, "--force", "--dry-run"]  # the stand-in bundle is what this command makes
    if words[0] == "eval" and "--text" in words:
        words = [*words, "--window-tokens", "64", "--windows", "2"]  # the stand-in's context is short
    if words[0] == "serve":
        words = [*words, "--port", "0"]
        serve = uvicorn.Server.run
        monkeypatch.setattr(uvicorn.Server, "run", lambda self, **given: closing(self) or serve(self, **given))
    assert main(words) == 0
    assert capsys.readouterr().out


def closing(server):
    """It starts, and closes as after control-C."""
    server.should_exit = True


def test_every_command_is_in_the_readme():
    assert {shlex.split(line)[1] for line in COMMANDS_SHOWN} == set(COMMANDS)


def test_the_recipes_of_the_readme_are_those_there_are():
    table = README.split("| recipe |")[1].split("\n\n")[0]
    assert [row[0].strip("`") for row in cells(table)[1:]] == list(RECIPES)


def test_the_targets_of_the_readme_are_those_there_are():
    assert set(re.findall(r"--to (\S+)", README)) | set(re.findall(r"target `(\w+)`", README)) == set(
        targets.available()
    )


def test_extras_are_those_there_are():
    extras = PROJECT["optional-dependencies"].keys()
    asked = re.findall(r"pip install [^\n]*?\[([\w,-]+)\]", "\n".join(path.read_text() for path in DOCUMENTS))
    table = README.split("| extra |")[1].split("\n\n")[0]
    assert {row[0].strip("`") for row in cells(table)[1:]} == extras
    assert asked
    assert {name for names in asked for name in names.split(",")} <= extras


# ---- FORMAT.md ----


def structs() -> list[type[msgspec.Struct]]:
    return [kind for kind in vars(manifest).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]


def test_the_example_manifest_decodes():
    example = blocks(FORMAT, "json")[0]
    decoded = msgspec.json.decode(example, type=Manifest)
    assert decoded.version == [1, 0] == manifest.version_of(decoded.parts)
    assert fields_of(decoded) == json.loads(example), "the example has a field that the code does not know"


def test_the_example_of_parts_decodes():
    """In the manifest before it, with an ExecuTorch artifact and its files."""
    whole, parts = json.loads(blocks(FORMAT, "json")[0]), json.loads(blocks(FORMAT, "json")[2])
    whole |= parts
    whole["artifacts"]["executorch"] = whole["artifacts"]["onnx"]
    decoded = msgspec.json.decode(json.dumps(whole), type=Manifest)
    assert decoded.version == [manifest.MAJOR, manifest.MINOR] == manifest.version_of(decoded.parts)
    assert fields_of(decoded)["parts"] == parts["parts"], "the example has a field that the code does not know"
    check_parts(decoded, "the example")
    assert decoded.used() >= {
        "parts/vision/onnx/graph.onnx",
        "parts/vision/onnx/graph.data",
        "parts/vision/golden.json",
    }


def test_the_page_and_the_code_agree_on_the_version():
    assert FORMAT.splitlines()[0] == f"# The bundle, version {manifest.MAJOR}.{manifest.MINOR}"


@pytest.mark.parametrize("kind", structs(), ids=lambda kind: kind.__name__)
def test_every_field_of_the_manifest_is_described(kind):
    described = FORMAT.split("```json")[0]
    assert [field for field in kind.__struct_fields__ if f"`{field}`" not in described] == []


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_every_input_and_output_is_described(name):
    config = parse_config(tiny.CONFIGS[name], name)
    lengths = [f"{kind}.{part}" for kind in ("full", "sliding") for part in ("last", "total")]
    names = [*input_names(config), *output_names(config), *lengths]
    patterns = {re.sub(r"\.\d+\.", ".L.", name) for name in names}
    assert [pattern for pattern in patterns if f"`{pattern}`" not in FORMAT] == []


def test_the_example_row_decodes(tmp_path):
    header, row = (bytes.fromhex(block) for block in blocks(FORMAT, "hex"))
    path = tmp_path / "example.rows"
    path.write_bytes(header.ljust(START, b"\0") + row)
    table = RowTable(path, multiplier=8)
    assert table.format.header().rstrip(b"\0") == header.rstrip(b"\0")
    assert table.rows(np.array([0]))[0].tolist() == json.loads(blocks(FORMAT, "json")[1])


# ---- quantize/README.md ----


@pytest.mark.parametrize(("title", "scales"), [("absmax", "absmax"), ("least squares", "least-squares")])
def test_the_example_of_the_arithmetic_is_right(title, scales):
    document = (ROOT / "quantize" / "README.md").read_text()
    rows = {row[0]: row[1:] for row in cells(document)}
    values = np.array([rows["values"][1:]], np.float32)
    made, loss = quantize(values, Scheme(4), scales)
    assert made.scales[0, 0] == pytest.approx(float(rows[f"{title}, codes"][0]), abs=5e-5)
    assert made.codes()[0].tolist() == [int(code) for code in rows[f"{title}, codes"][1:]]
    meant = [float(value) for value in rows[f"{title}, stand for"][1:]]
    assert made.dequantize()[0].tolist() == pytest.approx(meant, abs=5e-5)
    assert f"{loss.relative:.4f} for {title}" in document
    assert (made.packed.tobytes().hex(" ") in document) == (title == "least squares")


# ---- all documents ----


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_relative_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())
    relative = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in relative if not (path.parent / link).exists()] == []


def slug(title: str) -> str:
    """The name that a page of the repository gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def headings(path: Path) -> list[str]:
    return [slug(title) for title in re.findall(r"^#+ (.*)$", path.read_text(), re.M)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_links_to_a_heading_lead_to_one(path):
    links = re.findall(r"\]\(([^)#:\s]*)#([^)\s]+)\)", path.read_text())
    assert [(file, name) for file, name in links if name not in headings(path.parent / file if file else path)] == []


@pytest.mark.parametrize("path", [ROOT / "DECISIONS.md", ROOT / "BENCHMARKS.md"], ids=named)
def test_no_two_headings_have_one_name(path):
    assert len(headings(path)) == len(set(headings(path)))


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_no_path_of_a_machine_is_named(path):
    assert re.findall(r"(?<![\w.])/(?:home|root|work|tmp|mnt|Users)/\S*", path.read_text()) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_make_targets_are_those_there_are(path):
    rules = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text(), re.M)) <= rules


WINGS = sorted(
    {path.parent for room in ("export", "gemma_edge", "quantize", "runtime") for path in (ROOT / room).rglob("*.py")}
)


@pytest.mark.parametrize("wing", WINGS, ids=named)
def test_a_readme_has_a_line_for_every_file_and_every_wing(wing):
    """A room has wings; ten lines or so say what is in one."""
    readme = (wing / "README.md").read_text()
    rows = [row[0] for row in cells(readme)]
    listed = [row.strip("`") for row in rows if row.startswith("`")]
    wings = [row.split("`")[1].rstrip("/") for row in rows if row.startswith("[`")]
    files = [path.name for path in wing.iterdir() if path.suffix in (".py", ".txt", ".html")]
    assert sorted(listed) == sorted(set(files) - {"__init__.py"})
    assert sorted(wings) == sorted(path.name for path in wing.iterdir() if path.is_dir() and path in WINGS)


# ---- CHANGELOG.md and DECISIONS.md ----


def test_the_newest_version_of_the_changelog_is_the_project_s():
    newest = re.search(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest
    assert newest[1] == PROJECT["version"]


ENTRY = re.compile(
    r"(\d{4}-\d\d-\d\d) · (holds|superseded by \[[^\]]+\]\(#([^)]+)\))(?:[;,: ].*)?\n\n\*\*Result:\*\* [A-Z`\w]"
)


def decisions(document: str) -> dict[str, re.Match[str] | None]:
    """The date, status and result of each entry, by its title; None where one of them is missing."""
    entries = [entry.split("\n", 1) for entry in re.split(r"^### ", document, flags=re.M)[1:]]
    return {title: ENTRY.match(text) for title, text in entries}


def test_every_decision_has_a_date_a_status_and_a_result():
    assert [title for title, head in decisions((ROOT / "DECISIONS.md").read_text()).items() if head is None] == []


def test_a_superseded_decision_names_a_later_one():
    entries = {slug(title): head for title, head in decisions((ROOT / "DECISIONS.md").read_text()).items() if head}
    superseded = {name: head for name, head in entries.items() if head[3]}
    assert superseded
    assert [name for name, head in superseded.items() if not entries[head[3]][1] >= head[1]] == []


def test_the_contents_of_the_decisions_list_every_entry_in_order():
    contents, *topics = re.split(r"^## ", (ROOT / "DECISIONS.md").read_text(), flags=re.M)
    titles = [title for topic in topics for title in re.findall(r"^### (.*)$", topic, re.M)]
    assert re.findall(r"^- \[(.*)\]\(#", contents, re.M) == [title.replace("`", "") for title in titles]


@pytest.mark.parametrize(
    "entry", ["2026-12-01 · holds\n\nWords", "2026-12-01\n\n**Result:** it", "holds\n\n**Result:** it"]
)
def test_an_entry_without_date_status_or_result_is_found(entry):
    assert decisions(f"## Topic\n\n### Title\n{entry}") == {"Title": None}


# ---- tests/golden ----


def unread(golden: Path, tests: list[Path]) -> list[str]:
    """What lies in the golden folder and no test names."""
    text = "".join(path.read_text() for path in tests)
    return [
        entry.name for entry in sorted(golden.glob("*")) if entry.name not in text and f'"{entry.stem}"' not in text
    ]


def test_every_golden_is_read_by_a_test():
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path.name.startswith(("test_", "conftest"))]
    assert unread(ROOT / "tests" / "golden", tests) == []


def test_a_golden_that_nobody_reads_is_found(tmp_path):
    (tmp_path / "test_some.py").write_text('GOLDEN / "read.json", "folder"')
    for name in ("read.json", "forgotten.json"):
        (tmp_path / "golden").mkdir(exist_ok=True)
        (tmp_path / "golden" / name).touch()
    (tmp_path / "golden" / "folder").mkdir()
    assert unread(tmp_path / "golden", [tmp_path / "test_some.py"]) == ["forgotten.json"]
