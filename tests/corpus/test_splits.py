from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechgate.corpus.splits import SPLITS, make_splits, read_splits, splits_digest
from speechgate.errors import ManifestError

TEXTS = st.dictionaries(
    st.sampled_from(["eng", "spa"]),
    st.dictionaries(st.sampled_from([f"id-{n}" for n in range(20)]), st.sampled_from("abcdefghij")),
)


@given(TEXTS, st.integers(0, 5), st.integers(0, 5), st.integers(0, 3))
def test_no_text_is_in_two_splits(texts: dict[str, dict[str, str]], dev: int, test: int, seed: int) -> None:
    ids = {prompt_id for entries in texts.values() for prompt_id in entries}
    eligible = {prompt_id for prompt_id in ids if prompt_id < "id-15"}
    splits = make_splits(texts, eligible, dev, test, seed)
    assert sorted(prompt_id for split in SPLITS for prompt_id in splits[split]) == sorted(ids)
    assert len(splits["dev"]) <= dev
    assert len(splits["test"]) <= test
    assert eligible.issuperset(splits["dev"] + splits["test"])
    of = {prompt_id: split for split in SPLITS for prompt_id in splits[split]}
    for entries in texts.values():
        assert len({(text, of[prompt_id]) for prompt_id, text in entries.items()}) == len(set(entries.values()))


def test_texts_are_joined_through_several_languages() -> None:
    texts = {"eng": {"a": "Thank you!", "b": "thank you", "c": "no"}, "fra": {"b": "merci", "c": "Merci.", "d": "oui"}}
    splits = make_splits(texts, eligible={"a", "b", "c", "d"}, dev=0, test=3, seed=0)
    assert splits["test"] in (["a", "b", "c"], ["d"])


def test_splits_depend_on_the_seed_alone() -> None:
    texts = {"eng": {f"id-{n}": str(n) for n in range(50)}}
    backwards = {"eng": dict(reversed(texts["eng"].items()))}
    first = make_splits(texts, texts["eng"], 5, 10, seed=1)
    assert first == make_splits(backwards, set(texts["eng"]), 5, 10, seed=1)
    assert first != make_splits(texts, texts["eng"], 5, 10, seed=2)
    assert (len(first["dev"]), len(first["test"])) == (5, 10)


def test_committed_lists() -> None:
    splits = read_splits()
    sizes = {split: list(splits.values()).count(split) for split in SPLITS}
    assert sizes == {"train": 551, "dev": 24, "test": 48}
    held_out = [prompt_id for prompt_id, split in splits.items() if split != "train"]
    assert not [prompt_id for prompt_id in held_out if prompt_id.startswith(("digits/", "letters/", "phonetic/"))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in SPLITS:
        (tmp_path / f"{split}.txt").write_text(f"{split}-1\n{split}-2\n")
    return tmp_path


def test_digest_changes_with_the_lists(folder: Path) -> None:
    before = splits_digest(read_splits(folder))
    (folder / "test.txt").write_text("test-2\ntest-1\n")
    assert splits_digest(read_splits(folder)) == before, "the order of the lines means nothing"
    (folder / "test.txt").write_text("test-1\n")
    assert splits_digest(read_splits(folder)) != before


def test_bad_lists_are_named(folder: Path) -> None:
    (folder / "test.txt").write_text("test-1\ndev-2\n")
    with pytest.raises(ManifestError, match=r"test\.txt: dev-2 is in dev already"):
        read_splits(folder)
    (folder / "dev.txt").unlink()
    with pytest.raises(ManifestError, match=r"dev\.txt cannot be read"):
        read_splits(folder)
