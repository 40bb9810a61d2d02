"""The Gradle files, which nothing here can run: their versions and folders are those of the Maven build, which runs."""

from __future__ import annotations

import re
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parent.parent.parent / "android_demo"
VERSIONS = tomllib.loads((DEMO / "gradle" / "libs.versions.toml").read_text())
POM = (DEMO / "ci" / "pom.xml").read_text()
MODULES = re.findall(r'":([\w-]+)"', (DEMO / "settings.gradle.kts").read_text())


def only(pattern: str, text: str) -> str:
    """The group of a pattern that is there once."""
    (group,) = re.findall(pattern, text)
    return str(group)


@pytest.mark.parametrize("name", ["kotlin", "onnxruntime", "junit"])
def test_a_version_is_that_of_the_maven_build(name):
    assert VERSIONS["versions"][name] == only(rf"<{name}.version>(.+)</{name}.version>", POM)


def test_executorch_is_of_the_version_that_exports():
    lowest = only(r'"executorch>=([\d.]+),', (DEMO.parent / "pyproject.toml").read_text())
    assert VERSIONS["versions"]["executorch"] == lowest


def test_every_module_has_sources_and_is_in_the_maven_build():
    assert set(MODULES) | {"androidx-test", "executorch-declarations"} == set(re.findall(r"<module>(.+)</module>", POM))
    for module in MODULES:
        assert list((DEMO / module / "src" / "main" / "kotlin").rglob("*.kt"))
        assert f"../../{module}/src/main/kotlin" in (DEMO / "ci" / module / "pom.xml").read_text()


def test_every_name_of_the_catalogue_is_there():
    known = {f"libs.{name.replace('-', '.')}" for name in VERSIONS["libraries"]}
    known |= {f"libs.plugins.{name.replace('-', '.')}" for name in VERSIONS["plugins"]}
    used = {name for path in DEMO.rglob("*.gradle.kts") for name in re.findall(r"\blibs(?:\.\w+)+", path.read_text())}
    assert used <= known


def test_no_androidx_is_used():
    sources = [*DEMO.glob("*/src/main/**/*.kt"), *DEMO.rglob("*.gradle.kts"), *DEMO.glob("gradle/*.toml")]
    assert len(sources) > 30
    assert [path.name for path in sources if "androidx." in path.read_text()] == []


def test_the_oldest_and_the_newest_system_are_said_once():
    gradle = (DEMO / "app" / "build.gradle.kts").read_text()
    oldest = only(r"minSdk = (\d+)", gradle)
    assert f"--min-sdk-version {oldest} " in (DEMO / "ci" / "app" / "pom.xml").read_text()
    assert int(only(r"targetSdk = (\d+)", gradle)) >= 36


def test_what_the_manifest_names_exists():
    manifest = ElementTree.parse(DEMO / "app" / "src" / "main" / "AndroidManifest.xml").getroot()
    name = "{http://schemas.android.com/apk/res/android}name"
    classes = [node.attrib[name] for node in manifest.iter() if node.tag in ("application", "activity")]
    assert len(classes) == 3
    for kotlin in classes:
        assert (DEMO / "app" / "src" / "main" / "kotlin" / f"{kotlin.replace('.', '/')}.kt").is_file()


def test_light_and_dark_have_the_same_colours():
    res = DEMO / "app" / "src" / "main" / "res"
    names = [
        {node.get("name") for node in ElementTree.parse(res / folder / "theme.xml").getroot()}
        for folder in ("values", "values-night")
    ]
    assert names[0] == names[1]


def test_every_text_of_the_screens_is_a_string_that_exists():
    strings = DEMO / "app" / "src" / "main" / "res" / "values" / "strings.xml"
    known = {node.get("name") for node in ElementTree.parse(strings).getroot()}
    code = "".join(path.read_text() for path in (DEMO / "app" / "src" / "main" / "kotlin").rglob("*.kt"))
    used = set(re.findall(r"R\.string\.(\w+)", code)) | {"app_name"}
    assert used == known
