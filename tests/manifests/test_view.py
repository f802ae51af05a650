"""What is shown of a manifest's cuts."""

import pickle
from collections.abc import Callable

from lhotse import MonoCut

from speechgate.manifests.view import CorpusView


def test_folds_the_spelling_of_its_corpus_only(make_cut: Callable[..., MonoCut]) -> None:
    cut = make_cut(text="Ещё раз", translated={"spa": "Más", "fra": "Déjà"})
    shown = pickle.loads(pickle.dumps(CorpusView("prompts")))(cut)
    assert shown.supervisions[0].text == "Еще раз"
    assert shown.supervisions[0].custom == {"translated_text": {"spa": "Mas", "fra": "Déjà"}, "prompt_id": "hello"}
    assert shown.id == cut.id
    assert cut.supervisions[0].text == "Ещё раз"
    assert cut.supervisions[0].custom["translated_text"]["spa"] == "Más"
    other = CorpusView("common_voice", named=True)(cut)
    assert (other.id, other.supervisions[0].text) == ("common_voice/rus-hello", "Ещё раз")


def test_says_whether_it_is_needed() -> None:
    needed = [CorpusView("prompts"), CorpusView("covost2", named=True)]
    assert [view.changes_anything for view in (*needed, CorpusView("covost2"))] == [True, True, False]
