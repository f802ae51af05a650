import pytest

from speechgate.data.tasks import expand, expanded, has_task, parse_tasks, reference
from speechgate.errors import ConfigError, ManifestError
from speechgate.task import Task
from tests.data.dummies import TEXTS, dummy_cut

AVAILABLE = (Task.asr("eng"), Task.asr("rus"), Task.asr("deu"), Task.st("rus", "eng"), Task.st("deu", "eng"))


def names(tasks) -> list[str]:
    return [str(task) for task in tasks]


@pytest.mark.parametrize(
    ("kinds", "languages", "expected"),
    [
        ([], [], ["asr:deu", "asr:eng", "asr:rus", "st:deu-eng", "st:rus-eng"]),
        (["asr"], ["de"], ["asr:deu"]),
        (["asr"], ["deu"], ["asr:deu"]),
        (["asr", "st"], ["ru"], ["asr:rus", "st:rus-eng"]),
        (["st:eng"], [], ["st:deu-eng", "st:rus-eng"]),
        (["st:en"], ["de"], ["st:deu-eng"]),
        ([], ["en"], ["asr:eng"]),
        (["asr", "asr"], ["rus", "ru"], ["asr:rus"]),
    ],
)
def test_parse_tasks(kinds, languages, expected):
    assert sorted(names(parse_tasks(kinds, languages, AVAILABLE))) == expected


def test_no_kind_stands_for_those_of_the_corpus():
    only_asr = [task for task in AVAILABLE if task.kind == "asr"]
    assert names(parse_tasks([], [], only_asr)) == ["asr:eng", "asr:rus", "asr:deu"]


@pytest.mark.parametrize(
    ("kinds", "languages", "message"),
    [
        (["asr"], ["fr"], "language 'fra' is not in this corpus; it has: deu, eng, rus"),
        (["asr"], ["xx"], "unknown language 'xx'"),
        (["asr"], ["german"], "unknown language 'german'"),
        (["mt"], [], "task 'mt' is not in this corpus; it has: asr, st, st:eng"),
        (["st:fra"], [], "task 'st:fra' is not in this corpus; it has: asr, st, st:eng"),
        (["st:eng"], ["eng"], "no task is left of asr:eng, asr:rus"),
    ],
)
def test_parse_tasks_refuses_and_lists_what_exists(kinds, languages, message):
    with pytest.raises(ConfigError, match=message):
        parse_tasks(kinds, languages, AVAILABLE)


def test_a_cut_becomes_an_example_of_each_task_that_it_serves():
    english = dummy_cut("eng-a", 1.0)
    russian = dummy_cut("rus-a", 1.0, "rus", {"eng": "Enter the number."})
    untranslated = dummy_cut("rus-b", 1.0, "rus", {"eng": "", "deu": "Nummer."})
    examples = list(expand([english, russian, untranslated], AVAILABLE))
    assert [example.id for example in examples] == [
        "eng-a:asr:eng",
        "rus-a:asr:rus",
        "rus-a:st:rus-eng",
        "rus-b:asr:rus",
    ]
    assert [example.custom["task"] for example in examples] == ["asr:eng", "asr:rus", "st:rus-eng", "asr:rus"]
    assert [example.custom["cut_id"] for example in examples] == ["eng-a", "rus-a", "rus-a", "rus-b"]
    assert english.id == "eng-a"
    assert english.custom is None  # the manifest's own cuts are left as they were
    assert not has_task(untranslated, Task.st("rus", "eng"))


def test_reference_is_the_text_that_the_task_asks_for():
    cut = dummy_cut("rus-a", 1.0, "rus", {"eng": "Enter the number."})
    assert reference(cut, Task.asr("rus")) == TEXTS["rus"]
    assert reference(cut, Task.st("rus", "eng")) == "Enter the number."
    with pytest.raises(ManifestError, match="cut rus-a: no translation into 'fra', only: eng"):
        reference(cut, Task.st("rus", "fra"))
    with pytest.raises(ManifestError, match="only: none"):
        reference(dummy_cut("rus-b", 1.0, "rus"), Task.st("rus", "eng"))


def test_a_task_without_examples_is_refused():
    assert len(expanded([dummy_cut("eng-a", 1.0)], Task.asr("eng"))) == 1
    with pytest.raises(ManifestError, match="fits task st:rus-eng"):
        expanded([dummy_cut("eng-a", 1.0)], Task.st("rus", "eng"))
