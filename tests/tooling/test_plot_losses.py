"""scripts/plot_losses.py on tables of losses."""

import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.tooling.checkout import ROOT


def plot(out: Path, *experiments: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "scripts" / "plot_losses.py", out, *experiments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_losses_are_drawn(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "losses.csv").write_text(
            "step,train/loss,valid/loss\n19,9.0,\n39,7.5,\n39,,8.5\n59,6.0,7.0\n"
        )
    done = plot(tmp_path / "losses.png", tmp_path / "a", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "losses.png") as image:
        assert min(image.size) > 300


def test_a_folder_that_was_not_trained_is_named(tmp_path: Path) -> None:
    done = plot(tmp_path / "losses.png", tmp_path)
    assert (done.returncode, f"{tmp_path} holds no losses.csv" in done.stderr) == (1, True)
    assert not (tmp_path / "losses.png").exists()
