import pytest

from speechgate.text.scripts import script_share, scripts_of


@pytest.mark.parametrize(
    ("text", "lang3", "share"),
    [
        ("Привет", "rus", 1.0),
        ("Hello", "rus", 0.0),
        ("नमस्ते", "hin", 1.0),
        ("สวัสดี", "tha", 1.0),
        ("مرحبا", "ara", 1.0),
        ("こんにちは世界カ", "jpn", 1.0),
        ("你好", "zho", 1.0),
        ("안녕", "kor", 1.0),
        ("ngá wa dí mwέngὲ", "mdw", 1.0),
        ("да ok", "rus", 0.5),
        ("1 2 3 !", "rus", 1.0),
    ],
)
def test_share_of_the_letters(text: str, lang3: str, share: float) -> None:
    assert script_share(text, lang3) == share


def test_a_language_whose_script_is_not_known_is_not_judged() -> None:
    assert not scripts_of("bod")
    assert script_share("བོད", "bod") == 1.0
