"""A copy of the command-line files beside a fake CLI that writes down how it was called."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tooling.checkout import ROOT, Checkout, write_program

FAKE_CLI = """#!/bin/sh
for word in "$0" "$@"; do printf '%s\\n' "$word"; done >>calls.txt
echo >>calls.txt
env >environment.txt
"""
FAKE_BOOTSTRAP = """#!/bin/sh
echo set up >>bootstrap.txt
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes", ignore=shutil.ignore_patterns("pretrained"))
    for name in ("speechgate", "python"):
        write_program(tmp_path / ".venv" / "bin" / name, FAKE_CLI)
    write_program(tmp_path / "scripts" / "bootstrap.sh", FAKE_BOOTSTRAP)
    return Checkout(tmp_path)


@pytest.fixture
def programs(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder for PATH that holds only the named programs of this machine."""

    def folder(*names: str) -> Path:
        path = tmp_path / "programs"
        path.mkdir()
        for name in names:
            found = shutil.which(name)
            if found is None:
                pytest.skip(f"no {name} on this machine")
            (path / name).symlink_to(found)
        return path

    return folder
