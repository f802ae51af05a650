"""Every script starts and says what it is for; and those that have no file of their own here do their work."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from speechgate.corpus.prompts_source import BUNDLED
from speechgate.corpus.splits import read_splits
from tests.tooling.checkout import ROOT

# One process for all, which imports the package once.
ASK_EACH = """
import runpy, sys
sys.path.insert(0, "scripts")
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if end.code:
            sys.exit(f"{script} ended with {end.code}")
    except Exception as error:
        sys.exit(f"{script}: {error!r}")
"""


def test_every_script_answers_to_help() -> None:
    scripts = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "scripts").glob("*.py"))
    command = [sys.executable, "-c", ASK_EACH, *scripts]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage:") >= len(scripts) - 2  # two are modules of make_transfer_set.py


def test_splits_are_made_of_a_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["make_splits.py", str(BUNDLED), "--out", str(tmp_path)])
    runpy.run_path(str(ROOT / "scripts" / "make_splits.py"), run_name="__main__")
    assert list(read_splits(tmp_path).values()).count("test") > 0
