"""Which tokens are learnt for a language, and the file that keeps them."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgate.errors import CheckpointError, ConfigError
from speechgate.task import Task
from speechgate.text.tokenizer import Tokenizer
from speechgate.text.vocabulary import learn_vocabulary, load_vocabulary, save_vocabulary
from tests.model.tiny import TASKS, tokenizer

WORDS = ["please", "try", "again", "thank", "you", "введите", "номер"]


def learnt(texts: list[str], coverage: float = 1.0) -> set[int]:
    return set(learn_vocabulary(tokenizer(), {"eng": texts}, coverage).ids("eng"))


def test_all_tokens_of_the_text_and_all_special_symbols():
    vocabulary = learn_vocabulary(
        tokenizer(), {"rus": ["номер"], "eng": ["you", "you try"]}, held_out={"eng": ["try it"]}
    )
    assert list(vocabulary.languages) == ["eng", "rus"]
    english = vocabulary.languages["eng"]
    assert set(english.ids) == set(tokenizer().encode("you try")) | tokenizer().specials
    assert english.ids == tuple(sorted(english.ids))
    assert english.occurrences == len("you" + "you try")
    assert english.covered == 1.0
    assert english.held_out == pytest.approx(5 / 6)  # the i of "it"
    assert vocabulary.languages["rus"].held_out is None
    assert not set(tokenizer().encode("номер")) & set(english.ids)


@settings(max_examples=30)
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=30), st.floats(0.01, 1.0))
def test_coverage_is_met_by_the_fewest_tokens(texts, coverage):
    counts = Counter(token for text in texts for token in tokenizer().encode(text))
    chosen = learnt(texts, coverage) - tokenizer().specials
    covered = sum(counts[token] for token in chosen)
    assert covered >= coverage * counts.total() - 1e-6
    assert covered - min(counts[token] for token in chosen) < coverage * counts.total()
    assert min(counts[token] for token in chosen) >= max((counts[t] for t in counts.keys() - chosen), default=0)


def test_single_bytes_are_always_there():
    texts = ["please try again", "thank you", "try to thank them again and again"] * 20
    subwords = Tokenizer.train(texts, [Task.asr("eng")], "bpe", 290, byte_fallback=True)
    assert {subwords.token_list[i] for i in subwords.bytes} == {f"<0x{i:02X}>" for i in range(256)}
    ids = learn_vocabulary(subwords, {"eng": ["thank you"]}).ids("eng")
    assert set(subwords.encode("Ω")) <= set(ids)
    assert tokenizer().bytes == frozenset()


def test_what_is_saved_is_read(tmp_path):
    path = tmp_path / "vocabulary.json"
    vocabulary = learn_vocabulary(tokenizer(), {"eng": ["thank you"], "rus": ["номер"]}, 0.9)
    save_vocabulary(path, vocabulary, {"commit": "c0ffee"})
    assert load_vocabulary(path, tokenizer()) == vocabulary
    assert json.loads(path.read_text())["run"] == {"commit": "c0ffee"}
    other = Tokenizer.train(["thank you"], TASKS, "char", 0)
    with pytest.raises(CheckpointError, match="other tokens"):
        load_vocabulary(path, other)
    with pytest.raises(ConfigError, match=r"'fra'.*eng, rus"):
        vocabulary.ids("fra")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (None, "there is no"),
        ("{", "damaged"),
        ('{"schema": 2}', "schema 2"),
        ('{"schema": 1}', "damaged"),
        ("[]", "dam"),
    ],
)
def test_files_that_are_not_vocabularies(tmp_path, text, named):
    path = tmp_path / "vocabulary.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CheckpointError, match=named):
        load_vocabulary(path, tokenizer())


@pytest.mark.parametrize("coverage", [0.0, -0.1, 1.1])
def test_coverage_is_a_share(coverage):
    with pytest.raises(ConfigError, match="coverage"):
        learnt(["you"], coverage)


def test_a_language_without_text():
    with pytest.raises(ConfigError, match="'eng'"):
        learnt([])
