"""make passes its variables on as options, and LANG never as a locale."""

import re

import pytest

from tests.tooling.checkout import ROOT, Checkout


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("train TASK=asr LANG=de", "train --task asr --lang de"),
        ("train LANG=fr,it TASK=asr,st STACK=decoder SPARSITY=0.5",
         "train --task asr,st --lang fr,it --sparsity 0.5 --stack decoder"),
        ("decode CORPUS=prompts CONF=demo", "decode --corpus prompts --conf demo"),
        ("score", "score"),
        ("sweep SPARSITY=0.3,0.5", "sweep --sparsity 0.3,0.5"),
        ("report TASK=st LANG=rus", "report --task st --lang rus"),
        ("bench MODEL=small", "bench --model small"),
        ("demo", "demo"),
        ("demo SOURCE=bundled FROM_SCRATCH=1", "demo --source bundled --from-scratch"),
        ("demo FROM_SCRATCH=0 SOURCE=", "demo"),
    ],
)  # fmt: skip
def test_variables_become_options(checkout: Checkout, words: str, call: str) -> None:
    checkout.make(*words.split())
    assert checkout.calls == [["speechgate", *call.split()]]
    assert (checkout.root / "bootstrap.txt").exists()


def test_a_value_with_spaces_stays_one_argument(checkout: Checkout) -> None:
    checkout.make("demo", "SOURCE=my recordings")
    assert checkout.calls == [["speechgate", "demo", "--source", "my recordings"]]


@pytest.mark.parametrize("locale", ["de_DE.UTF-8", "C.UTF-8", "fr"])
def test_lang_of_the_environment_is_a_locale_only(checkout: Checkout, locale: str) -> None:
    checkout.make("train", "TASK=asr", LANG=locale)
    assert checkout.calls == [["speechgate", "train", "--task", "asr"]]
    assert checkout.environment["LANG"] == locale


@pytest.mark.parametrize("name", ["TASK", "CORPUS", "SPARSITY", "SOURCE"])
def test_other_variables_of_the_environment_are_ignored(checkout: Checkout, name: str) -> None:
    checkout.make("train", **{name: "elsewhere"})
    assert checkout.calls == [["speechgate", "train"]]


@pytest.mark.parametrize("locale", ["it_IT.UTF-8", "de", ""])
def test_lang_of_the_command_line_is_no_locale(checkout: Checkout, locale: str) -> None:
    checkout.make("train", "LANG=de", LANG=locale, LC_TIME="fr_FR.UTF-8")
    assert checkout.calls == [["speechgate", "train", "--lang", "de"]]
    environment = checkout.environment
    # GNU make before 4.4 can still see the locale that it was started in; later ones leave the neutral one.
    assert environment["LANG"] in ({locale, "C.UTF-8"} - {"de", ""})
    assert environment["LC_TIME"] == "fr_FR.UTF-8"
    assert not {name: value for name, value in environment.items() if re.search(r"\bde\b|LANG=", value)}


@pytest.mark.parametrize(
    "words",
    ["train TAKS=asr", "train STAGE=2", "score CONF=debug", "report STACK=decoder", "demo LANG=de", "test TASK=asr"],
)
def test_a_variable_that_a_target_does_not_take_is_refused(checkout: Checkout, words: str) -> None:
    result = checkout.run("make", *words.split(), check=False)
    target, variable = words.split("=")[0].split()
    assert result.returncode != 0
    assert f'"make {target}" does not take {variable}. It takes: ' in result.stderr
    assert not (checkout.root / "calls.txt").exists()


def test_run_starts_the_recipe_of_the_corpus(checkout: Checkout) -> None:
    checkout.make("run", "CORPUS=prompts", "STAGE=1", "STOP_STAGE=1", "SOURCE=bundled")
    assert checkout.calls == [["speechgate", "download", "--corpus", "prompts", "--source", "bundled"]]


def test_run_of_an_unknown_corpus_lists_the_recipes(checkout: Checkout) -> None:
    result = checkout.run("make", "run", "CORPUS=europarl", check=False)
    assert result.returncode != 0
    assert "no recipe for CORPUS=europarl; there are: common_voice covost2" in result.stderr


def test_test_runs_pytest(checkout: Checkout) -> None:
    checkout.make("test")
    assert checkout.calls == [["python", "-m", "pytest"]]


def test_help_names_every_target(checkout: Checkout) -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert phony is not None
    listed = [line.split()[0] for line in checkout.make().stdout.splitlines()]
    assert set(phony[1].split()) <= set(listed)
    assert checkout.make("help").stdout == checkout.make().stdout
