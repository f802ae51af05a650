"""Pieces of a decoding: whoever decoded them, each cut is in the results exactly once, or an error says why."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechgate.decoding.decode import examples_of
from speechgate.decoding.parts import Piece, join, missing, open_part, pieces_of, read_parts
from speechgate.errors import ManifestError
from speechgate.shard import deal
from tests.data.dummies import dummy_cut
from tests.model.tiny import TASKS

CUTS = [dummy_cut(f"cut{i}", 9.0 + i, ("eng", "rus")[i % 2], {"eng": "thank you"}) for i in range(9)]


def line_of(piece: Piece) -> dict[str, Any]:
    entries = [{"id": cut.custom["cut_id"], "task": cut.custom["task"]} for cut in piece.examples]
    return {"piece": piece.key, "hypotheses": entries}


def write_part(path: Path, pieces: list[Piece]) -> Path:
    with open_part(path) as append:
        for piece in pieces:
            append(line_of(piece))
    return path


@pytest.fixture
def pieces() -> list[Piece]:
    return pieces_of(examples_of(CUTS, TASKS), deaf=True)


@given(
    lengths=st.lists(st.floats(0.5, 40.0), min_size=1, max_size=25),
    languages=st.lists(st.sampled_from(["eng", "rus"]), min_size=25, max_size=25),
    shards=st.integers(1, 12),
)
def test_any_number_of_shards_covers_each_example_once(lengths: list[float], languages: list[str], shards: int) -> None:
    pairs = enumerate(zip(lengths, languages, strict=False))
    cuts = [dummy_cut(f"cut{i}", length, language, {"eng": "thank you"}) for i, (length, language) in pairs]
    examples = examples_of(cuts, TASKS)
    pieces = pieces_of(examples, deaf=True)
    dealt = deal([piece.examples[0].duration * len(piece.examples) for piece in pieces], shards)
    heard = [(pieces[at].audio, cut.id) for shard in dealt for at in shard for cut in pieces[at].examples]
    alone = {cut.id for cut in examples if sum(cut.custom["task"] == each.custom["task"] for each in examples) == 1}
    wanted = {(audio, cut.id) for audio in ("real", "silent") for cut in examples}
    wanted |= {("shuffled", cut.id) for cut in examples if cut.id not in alone}
    assert len(heard) == len(wanted)
    assert set(heard) == wanted


def test_the_deaf_baselines_hear_another_utterance_of_the_task_or_silence(pieces: list[Piece]) -> None:
    for piece in pieces:
        for cut, heard in zip(piece.examples, piece.heard, strict=True):
            if piece.audio == "silent":
                assert heard is None
            else:
                assert heard is not None
                assert heard.custom["task"] == cut.custom["task"]
                assert (heard.id == cut.id) == (piece.audio == "real")
    shuffled = [heard.id for piece in pieces if piece.audio == "shuffled" for heard in piece.heard if heard]
    assert len(shuffled) == len(set(shuffled))


@pytest.mark.parametrize("shards", [1, 2, 5, 40])
def test_parts_of_any_number_of_shards_join_to_the_same_files(tmp_path: Path, pieces: list[Piece], shards: int) -> None:
    for number, dealt in enumerate(deal([1.0] * len(pieces), shards)):
        write_part(tmp_path / f"{number}.jsonl", [pieces[at] for at in reversed(dealt)])
    found = read_parts(tmp_path)
    assert not missing(pieces, found)
    for audio in ("real", "shuffled", "silent"):
        join(pieces, found, audio, tmp_path / "joined")
        entries = [json.loads(line) for line in (tmp_path / "joined").read_text().splitlines()]
        assert entries == [entry for piece in pieces if piece.audio == audio for entry in line_of(piece)["hypotheses"]]


def test_gaps_are_named(tmp_path: Path, pieces: list[Piece]) -> None:
    write_part(tmp_path / "a.jsonl", pieces[1:])
    found = read_parts(tmp_path)
    first = pieces[0].examples
    assert missing(pieces, found) == first
    ids = sorted(cut.custom["cut_id"] for cut in first)
    with pytest.raises(ManifestError, match=rf"{len(first)} of 13 .*cut {ids[0]} for asr:eng, decoded 0 times"):
        join(pieces, found, "real", tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


def test_a_cut_twice_or_foreign_in_the_parts_is_named(tmp_path: Path, pieces: list[Piece]) -> None:
    found = {piece.key: line_of(piece) for piece in pieces}
    both = line_of(pieces[0])["hypotheses"] + line_of(pieces[1])["hypotheses"]
    found[pieces[1].key] = {"hypotheses": both}
    with pytest.raises(
        ManifestError, match=rf"{len(pieces[0].examples)} of 13 .*cut cut\d for asr:eng, decoded 2 times"
    ):
        join(pieces, found, "real", tmp_path / "joined")
    found[pieces[1].key] = {"hypotheses": [*line_of(pieces[1])["hypotheses"], {"id": "alien", "task": "asr:eng"}]}
    with pytest.raises(ManifestError, match=r"1 of 13 .*cut alien for asr:eng, decoded 1 times"):
        join(pieces, found, "real", tmp_path / "joined")


def test_a_piece_of_two_processes_is_refused_with_both_files(tmp_path: Path, pieces: list[Piece]) -> None:
    one, two = write_part(tmp_path / "1.jsonl", pieces[:3]), write_part(tmp_path / "2.jsonl", pieces[2:])
    cut = pieces[2].examples[0]
    message = f"cut {cut.custom['cut_id']} for {cut.custom['task']} was decoded twice, in {one} and in {two}"
    with pytest.raises(ManifestError, match=re.escape(message)):
        read_parts(tmp_path)


@pytest.mark.parametrize("left", [1, 20, -1])
def test_half_a_line_is_no_piece_and_is_removed_by_the_next_writer(
    tmp_path: Path, pieces: list[Piece], left: int
) -> None:
    path = write_part(tmp_path / "a.jsonl", pieces[:2])
    whole = path.read_bytes()
    last = json.dumps(line_of(pieces[2])).encode() + b"\n"
    path.write_bytes(whole + last[:left])
    assert set(read_parts(tmp_path)) == {pieces[0].key, pieces[1].key}
    write_part(path, pieces[2:3])
    assert path.read_bytes() == whole + last


def test_a_damaged_line_is_named(tmp_path: Path, pieces: list[Piece]) -> None:
    path = write_part(tmp_path / "a.jsonl", pieces[:3])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\0" * 10 + b"\n" + lines[2])
    with pytest.raises(ManifestError, match=rf"{path}, line 2 is damaged: remove the file"):
        read_parts(tmp_path)
