"""bootstrap.sh on machines that lack something.  What it does where nothing lacks is shown by every test run."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tooling.checkout import ROOT, Checkout, write_program

TOOLS = ("bash", "cat", "cksum", "dirname", "env", "mkdir", "rm", "sed")


@pytest.fixture
def bare(tmp_path: Path) -> Checkout:
    """The files that bootstrap.sh reads; it must end before it gets to the package."""
    (tmp_path / "scripts").mkdir()
    for name in ("pyproject.toml", "requirements.lock", "scripts/bootstrap.sh"):
        shutil.copy(ROOT / name, tmp_path / name)
    return Checkout(tmp_path)


def bootstrap(bare: Checkout, path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return bare.run("scripts/bootstrap.sh", environment={"PATH": str(path), **environment}, check=False)


def test_without_any_python_the_message_says_what_to_install(bare: Checkout, programs: Callable[..., Path]) -> None:
    result = bootstrap(bare, programs(*TOOLS))
    assert result.returncode == 1
    assert "cannot install uv: no Python from 3.8 on" in result.stderr
    assert "python3-venv" in result.stderr
    assert not (bare.root / ".venv").exists()


def test_a_shim_that_fails_and_an_old_python_are_passed_over(bare: Checkout, programs: Callable[..., Path]) -> None:
    path = programs(*TOOLS)
    write_program(path / "uv", "#!/bin/sh\necho 'pyenv: uv: command not found' >&2\nexit 127\n")
    write_program(path / "python3", "#!/bin/sh\nexit 127\n")
    write_program(path / "python", "#!/bin/sh\nexit 1  # sys.version_info < (3, 8)\n")
    result = bootstrap(bare, path)
    assert result.returncode == 1
    assert result.stderr.startswith("bootstrap: cannot install uv")


def test_without_a_suitable_python_the_message_names_the_versions(
    bare: Checkout, programs: Callable[..., Path]
) -> None:
    path = programs(*TOOLS)
    write_program(path / "uv", '#!/bin/sh\n[ "$*" = "python find --help" ]\n')
    result = bootstrap(bare, path, PYENV_ROOT="/nowhere")
    assert result.returncode == 1
    assert 'no suitable Python: speechgate needs one of ">=3.12,<3.14"' in result.stderr
    assert "/nowhere/versions" in result.stderr
    assert not (bare.root / ".venv").exists()


def test_set_up_is_done_once_for_each_lock(bare: Checkout, programs: Callable[..., Path]) -> None:
    path = programs(*TOOLS, "touch", "chmod")
    write_program(path / "uv", """#!/bin/sh
        echo "$*" >>calls.txt
        [ "$1" = venv ] && mkdir -p .venv/bin && touch .venv/bin/python && chmod +x .venv/bin/python
        [ "$*" = "python find" ] && [ -d .venv ] && echo "$PWD/.venv/bin/python3"
        exit 0
    """)  # fmt: skip
    calls = bare.root / "calls.txt"

    assert bootstrap(bare, path).returncode == 0
    assert "pip sync --python .venv/bin/python --require-hashes requirements.lock" in calls.read_text(encoding="utf-8")

    calls.unlink()
    assert bootstrap(bare, path).returncode == 0
    assert not calls.exists(), "nothing had changed"

    with (bare.root / "requirements.lock").open("a", encoding="utf-8") as lock:
        lock.write("# changed\n")
    assert bootstrap(bare, path).returncode == 0
    again = calls.read_text(encoding="utf-8")
    assert "pip sync" in again
    assert "venv --" not in again, "the environment is kept"


def test_set_up_that_was_cut_short_is_taken_up_again(bare: Checkout, programs: Callable[..., Path]) -> None:
    path = programs(*TOOLS, "touch", "chmod")
    write_program(path / "uv", """#!/bin/sh
        echo "$*" >>calls.txt
        [ "$1" = venv ] && mkdir -p .venv/bin && touch .venv/bin/python && chmod +x .venv/bin/python
        [ "$1 $2" != "pip sync" ]
    """)  # fmt: skip
    first, second = bootstrap(bare, path), bootstrap(bare, path)
    assert first.returncode == second.returncode == 1
    assert "the packages could not be installed" in second.stderr


def test_lock_holds_exact_hashed_versions_and_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entry = re.compile(r"[a-z0-9.-]+==[^ ]+( ; [^\\]+)? \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+")
    assert entry.sub("", lock) == ""
    assert not re.search(r"https?:|://|www\.|\.org|\.com|file:|--index|--find-links", lock)
