"""scripts/errors_by.py: errors by the length of the recordings and by their speakers."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from lhotse import CutSet

from tests.data.dummies import dummy_cut
from tests.scoring.test_score import line, write
from tests.tooling.checkout import ROOT

LINES = [
    line("asr:eng", 1, "press one now", "press two now", audio_seconds=1.0),
    line("asr:eng", 2, "please hold on", "please hold on", audio_seconds=2.0),
    line("asr:fra", 1, "bonjour", "bon jour", audio_seconds=2.5),
    line("st:fra-eng", 1, "good day", "not counted", audio_seconds=2.5),
    line("asr:eng", 3, "call me back later", "back later", audio_seconds=9.0),
]


def run(*arguments: Path | str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "scripts" / "errors_by.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_by_length_each_recording_counts_once_and_the_edge_belongs_to_the_shorter(tmp_path: Path) -> None:
    done = run(write(tmp_path / "decoded", lines=LINES), "--seconds", "2.5", "1", "4")
    assert done.returncode == 0, done.stderr
    assert [row.split() for row in done.stdout.splitlines()] == [
        ["recordings", "units", "errors", "%"],
        ["up", "to", "1", "s", "1", "3", "1", "33.3"],
        ["up", "to", "2.5", "s", "2", "4", "2", "50.0"],
        ["over", "4", "s", "1", "4", "2", "50.0"],
    ]


def test_by_speaker_of_the_manifest(tmp_path: Path) -> None:
    cuts = []
    for name, speaker in (("eng-1", "pico"), ("eng-2", "espeak"), ("eng-3", "pico"), ("fra-1", "pico")):
        cut = dummy_cut(name, 1.0)
        cut.supervisions = [replace(cut.supervisions[0], speaker=speaker)]
        cuts.append(cut)
    CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl.gz")
    decoded = write(tmp_path / "decoded", lines=LINES)
    done = run(decoded, "--speakers", tmp_path / "cuts.jsonl.gz")
    assert done.returncode == 0, done.stderr
    assert [row.split() for row in done.stdout.splitlines()[1:]] == [
        ["eng", "espeak", "1", "3", "0", "0.0"],
        ["eng", "pico", "2", "7", "3", "42.9"],
        ["fra", "pico", "1", "1", "2", "200.0"],
    ]
    CutSet.from_cuts(cuts[:2]).to_file(tmp_path / "other.jsonl.gz")
    lost = run(decoded, "--speakers", tmp_path / "other.jsonl.gz")
    assert (lost.returncode, "has no cut fra-1" in lost.stderr) == (1, True)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (LINES[3:4], "has no ASR"),
        ([*LINES, line("asr:jpn", 1, "はい", "はい")], "languages of words and of characters"),
    ],
)
def test_what_cannot_be_counted_is_said(tmp_path: Path, lines, message) -> None:
    done = run(write(tmp_path / "decoded", lines=lines), "--seconds", "5")
    assert (done.returncode, message in done.stderr, done.stdout) == (1, True, "")
