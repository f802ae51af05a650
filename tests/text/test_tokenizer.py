import pickle
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechgate.errors import CheckpointError, ConfigError
from speechgate.task import Task
from speechgate.text.normalize import normalize_for_training
from speechgate.text.tokenizer import Tokenizer

TASKS = [Task.asr("rus"), Task.asr("eng"), Task.st("rus", "eng"), Task.st("ita", "eng"), Task.st("eng", "ita")]
TEXTS = [
    "please enter your agent number followed by the pound key",
    "введите номер оператора и нажмите решетку",
    "benvenuto nell'elenco premere 1 o 2",
    "you can't do that",
    "please try again",
]
UNITS = {"char": 0, "bpe": 80, "unigram": 60}
ALPHABET = sorted(set("".join(TEXTS)))


@cache
def train(units: str) -> Tokenizer:
    return Tokenizer.train(TEXTS, TASKS, units, UNITS[units])  # type: ignore[arg-type]


@pytest.fixture(params=UNITS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return train(request.param)


def test_order_of_the_tokens(tokenizer: Tokenizer) -> None:
    head = ["<blank>", "<unk>", "<na>", "<nolang>", "<eng>", "<ita>", "<rus>", "<asr>", "<st_eng>", "<st_ita>"]
    assert tokenizer.token_list[:11] == [*head, "<notimestamps>"]
    assert tokenizer.token_list[-3:] == ["<sos>", "<eos>", "<sop>"]
    assert (tokenizer.blank, tokenizer.unk, tokenizer.na) == (0, 1, 2)
    names = [tokenizer.token_list[i] for i in (tokenizer.sos, tokenizer.eos, tokenizer.sop)]
    assert names == ["<sos>", "<eos>", "<sop>"]
    assert len(set(tokenizer.token_list)) == len(tokenizer) == len(tokenizer.token_list)
    assert tokenizer.specials == {*range(11), len(tokenizer) - 3, len(tokenizer) - 2, len(tokenizer) - 1}


def test_sizes() -> None:
    assert len(train("bpe")) == 80 + 14
    assert len(train("unigram")) <= 60 + 14
    assert {piece.replace("▁", " ") for piece in train("char").token_list[11:-3]} == set(ALPHABET)


@given(st.sampled_from(sorted(UNITS)), st.text(alphabet=ALPHABET))
def test_decoding_undoes_encoding(units: str, text: str) -> None:
    text = normalize_for_training(text, "ita")
    tokenizer = train(units)
    ids = tokenizer.encode(text)
    assert not tokenizer.specials.intersection(ids)
    assert tokenizer.decode(ids) == text


@given(st.text())
def test_unknown_characters_become_unk(text: str) -> None:
    tokenizer = train("char")
    ids = tokenizer.encode(normalize_for_training(text, "eng"))
    assert (tokenizer.unk in ids) == any(c not in ALPHABET for c in normalize_for_training(text, "eng"))


def test_characters_are_one_token_each() -> None:
    ids = train("char").encode("you can't")
    assert [train("char").token_list[i] for i in ids] == ["y", "o", "u", "▁", "c", "a", "n", "'", "t"]


def test_specials_are_dropped(tokenizer: Tokenizer) -> None:
    ids = [tokenizer.sos, *tokenizer.prompt(TASKS[0]), *tokenizer.encode("please try again"), tokenizer.eos]
    assert tokenizer.decode(ids) == "please try again"
    assert tokenizer.decode(sorted(tokenizer.specials)) == tokenizer.decode([]) == tokenizer.decode(iter([])) == ""
    for wrong in (-1, len(tokenizer)):
        with pytest.raises(IndexError, match=f"token id {wrong} is outside"):
            tokenizer.decode([wrong])


@pytest.mark.parametrize("task", TASKS)
def test_prompts(tokenizer: Tokenizer, task: Task) -> None:
    assert tuple(tokenizer.token_list[i] for i in tokenizer.prompt(task)) == task.prompt


def test_unknown_tasks_list_the_known(tokenizer: Tokenizer) -> None:
    with pytest.raises(
        ConfigError, match=r"asr:deu: the tokenizer has no language <deu>; it knows <eng>, <ita>, <rus>"
    ):
        tokenizer.prompt(Task.asr("deu"))
    with pytest.raises(ConfigError, match=r"no task <st_rus>; it knows <asr>, <st_eng>, <st_ita>"):
        tokenizer.prompt(Task.st("eng", "rus"))


def test_saved_and_loaded(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer")
    assert sorted(file.name for file in (tmp_path / "tokenizer").iterdir()) == ["tokens.model", "tokens.txt"]
    for copy in (Tokenizer.load(tmp_path / "tokenizer"), pickle.loads(pickle.dumps(tokenizer))):
        assert copy.token_list == tokenizer.token_list
        assert copy.encode(TEXTS[1]) == tokenizer.encode(TEXTS[1])
        assert copy.prompt(TASKS[3]) == tokenizer.prompt(TASKS[3])


def test_training_is_reproducible(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Tokenizer.train(iter(TEXTS), TASKS, "bpe", 80).save(tmp_path / name)
    for file in ("tokens.txt", "tokens.model"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_very_long_texts_are_not_skipped() -> None:
    assert "z" in Tokenizer.train(["a b " * 3000 + "z"], TASKS, "char", 0).token_list


def test_impossible_trainings() -> None:
    with pytest.raises(ConfigError, match="unknown units 'words': use char, bpe or unigram"):
        Tokenizer.train(TEXTS, TASKS, "words", 10)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least one task"):
        Tokenizer.train(TEXTS, [], "char", 0)
    with pytest.raises(ConfigError, match="no text"):
        Tokenizer.train(["", " "], TASKS, "char", 0)
    with pytest.raises(ConfigError, match="5000 bpe pieces cannot be learnt from 5 texts: Vocabulary size too high"):
        Tokenizer.train(TEXTS, TASKS, "bpe", 5000)


def test_unusable_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no usable tokenizer in .*tokens\.txt.*train one with `tokenize`"):
        Tokenizer.load(tmp_path)
    train("char").save(tmp_path)
    (tmp_path / "tokens.model").write_bytes(b"not a model")
    with pytest.raises(CheckpointError, match=r"tokens\.model is not a sentencepiece model"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokens.model").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"tokens\.model is not a sentencepiece model"):
        Tokenizer.load(tmp_path)
    train("bpe").save(tmp_path / "other")
    (tmp_path / "tokens.model").write_bytes((tmp_path / "other" / "tokens.model").read_bytes())
    with pytest.raises(CheckpointError, match="disagree"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokens.txt").write_text("a\nb\n")
    with pytest.raises(CheckpointError, match="has no <notimestamps> token"):
        Tokenizer.load(tmp_path)


def test_bytes_stand_for_characters_without_a_piece() -> None:
    tokenizer = Tokenizer.train(TEXTS, TASKS, "unigram", 400, byte_fallback=True)
    text = "please 漢字 ẞ 🎧"
    ids = tokenizer.encode(text)
    assert tokenizer.unk not in ids
    assert tokenizer.decode(ids) == text
    assert "<0xE6>" in tokenizer.token_list
    assert tokenizer.specials == train("bpe").specials - {len(train("bpe")) - n for n in (1, 2, 3)} | {
        len(tokenizer) - n for n in (1, 2, 3)
    }
    with pytest.raises(ConfigError, match="byte_fallback needs units bpe or unigram"):
        Tokenizer.train(TEXTS, TASKS, "char", 0, byte_fallback=True)
