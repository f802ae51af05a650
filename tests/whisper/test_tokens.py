"""Whisper's tokens and prompts."""

from pathlib import Path

import pytest

from speechgate.decoding.searcher import search_tokens
from speechgate.errors import CheckpointError, ConfigError
from speechgate.task import Task
from speechgate.whisper.build import load_whisper
from speechgate.whisper.config import WhisperConfig
from speechgate.whisper.tokens import WhisperTokens
from tests.whisper.tiny import SPECIALS, write_whisper


@pytest.fixture(scope="module")
def tokens(whisper_folder: Path) -> WhisperTokens:
    return load_whisper(WhisperConfig(str(whisper_folder)), [])[1]


def symbols(tokens: WhisperTokens, task: Task) -> list[str]:
    return [tokens.token_list[token] for token in tokens.prompt(task)]


def test_prompts_are_whisper_s(tokens: WhisperTokens) -> None:
    assert symbols(tokens, Task.asr("fra")) == ["<|fr|>", "<|transcribe|>", "<|notimestamps|>"]
    assert symbols(tokens, Task.st("deu", "eng")) == ["<|de|>", "<|translate|>", "<|notimestamps|>"]
    with pytest.raises(ConfigError, match="<mdw>"):
        tokens.prompt(Task.asr("mdw"))
    with pytest.raises(ConfigError, match="<st_fra>"):
        tokens.prompt(Task.st("eng", "fra"))


def test_new_languages_and_targets_get_symbols_and_embeddings(whisper_folder: Path) -> None:
    host, tokens, config = load_whisper(WhisperConfig(str(whisper_folder)), [Task.asr("mdw"), Task.st("mdw", "fra")])
    size = len(tokens) - 2
    assert tokens.added == ("<|mdw|>", "<|translate_fra|>")
    assert symbols(tokens, Task.st("mdw", "fra")) == ["<|mdw|>", "<|translate_fra|>", "<|notimestamps|>"]
    assert symbols(tokens, Task.st("eng", "fra"))[1] == "<|translate_fra|>"
    embedding_VD = host.decoder.decoder.embed_tokens.weight
    assert embedding_VD.size(0) == len(tokens) == config.architecture["vocab_size"]
    translate = tokens.prompt(Task.st("fra", "eng"))[1]
    assert embedding_VD[size + 1].equal(embedding_VD[translate])
    languages = [tokens.prompt(Task.asr(code))[0] for code in ("eng", "fra", "deu")]
    assert embedding_VD[size].allclose(embedding_VD[languages].mean(0))


@pytest.mark.parametrize("text", ["hello world", "où ça, 27 km", "привет", "日本語", ""])
def test_texts_survive_with_the_space_that_whisper_begins_with(tokens: WhisperTokens, text: str) -> None:
    ids = tokens.encode(text)
    assert tokens.decode(ids) == text
    assert not text or tokens.token_list[ids[0]] == "Ġ"
    assert not tokens.specials & set(ids)


def test_the_search_obeys_whisper_s_rules(tokens: WhisperTokens) -> None:
    rules = search_tokens(tokens)
    assert rules.eos not in rules.forbidden
    assert {1, 2} <= set(rules.forbidden)
    assert set(rules.forbidden_first) == {3, rules.eos}
    assert set(rules.forbidden) - {1, 2} == tokens.specials - {rules.eos}


def test_tokens_are_saved_and_read(tokens: WhisperTokens, tmp_path: Path) -> None:
    more = tokens.extended([Task.asr("swa")])
    more.save(tmp_path)
    again = WhisperTokens.load(tmp_path)
    assert again.token_list == more.token_list
    assert again.prompt(Task.asr("swa")) == more.prompt(Task.asr("swa"))
    (tmp_path / "whisper.json").write_text("{}")
    with pytest.raises(CheckpointError, match="damaged"):
        WhisperTokens.load(tmp_path)
    with pytest.raises(CheckpointError, match="no usable"):
        WhisperTokens.load(tmp_path / "none")


def test_an_english_whisper_is_refused(tmp_path: Path) -> None:
    few = [each for each in SPECIALS if each not in ("<|translate|>", "<|transcribe|>")]
    with pytest.raises(CheckpointError, match="English"):
        load_whisper(WhisperConfig(str(write_whisper(tmp_path, few))), [])


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing_here"):
        load_whisper(WhisperConfig(str(tmp_path / "nothing_here")), [])


def test_any_text_can_be_written_with_single_bytes(tokens: WhisperTokens) -> None:
    assert len(tokens.bytes) == 256
    assert not tokens.bytes & tokens.specials
