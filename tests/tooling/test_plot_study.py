"""scripts/plot_study.py on decodings written by hand."""

import subprocess
import sys
from pathlib import Path

from PIL import Image

from speechgate.scoring.score import score_directory
from tests.scoring.test_score import LINES, write
from tests.tooling.checkout import ROOT


def plot(home: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "scripts" / "plot_study.py", home, out, "--map", "g_decoder_50"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_study_is_drawn(tmp_path: Path) -> None:
    for name, stack in (("dense", "none"), ("g_decoder_50", "decoder"), ("shallow_decoder_50", "decoder")):
        score_directory(write(tmp_path / name / "decode_test", stack, LINES))
    done = plot(tmp_path, tmp_path / "study.png")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "study.png") as image:
        assert min(image.size) > 500


def test_what_is_not_scored_is_said(tmp_path: Path) -> None:
    done = plot(tmp_path, tmp_path / "study.png")
    assert done.returncode == 1
    assert "no g_STACK_TARGET or dial_STACK has wer" in done.stderr
    score_directory(write(tmp_path / "g_decoder_50" / "decode_test", "decoder", LINES))
    done = plot(tmp_path, tmp_path / "study.png")
    assert (done.returncode, "decode and score the dense model first" in done.stderr) == (1, True)
    assert not (tmp_path / "study.png").exists()
