"""What Xcode reads of ios_demo: the project agrees with the package, and the lists are lists."""

from __future__ import annotations

import plistlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

DEMO = Path(__file__).resolve().parents[2] / "ios_demo"


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((DEMO / "project.yml").read_text(encoding="utf-8"))
    return values


def test_products_are_those_of_the_package(project):
    made = set(re.findall(r'\.library\(name: "(\w+)"', (DEMO / "Package.swift").read_text(encoding="utf-8")))
    target = project["targets"]["GemmaEdge"]
    used = {one["product"] for one in target["dependencies"]}
    assert used <= made
    imported = {
        name
        for file in (DEMO / "App").glob("*.swift")
        for name in re.findall(r"^import (Edge\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert imported == used
    assert all((DEMO / folder).is_dir() for folder in target["sources"])


def test_the_oldest_system_is_that_of_the_package(project):
    package = (DEMO / "Package.swift").read_text(encoding="utf-8")
    assert f".iOS(.v{project['options']['deploymentTarget']['iOS'].removesuffix('.0')})" in package


def test_entitlements_are_those_of_the_project(project):
    asked = project["targets"]["GemmaEdge"]["entitlements"]
    assert plistlib.loads((DEMO / asked["path"]).read_bytes()) == asked["properties"]


def test_nothing_is_collected_and_reasons_are_given():
    privacy = plistlib.loads((DEMO / "App" / "PrivacyInfo.xcprivacy").read_bytes())
    assert privacy["NSPrivacyTracking"] is False
    assert privacy["NSPrivacyCollectedDataTypes"] == []
    assert all(one["NSPrivacyAccessedAPITypeReasons"] for one in privacy["NSPrivacyAccessedAPITypes"])
