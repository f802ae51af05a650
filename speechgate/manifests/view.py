"""How the cuts of a manifest are shown to whoever reads them for training or decoding; the manifest stays as it is."""

from dataclasses import dataclass

from lhotse.cut import Cut
from lhotse.utils import fastcopy

from speechgate.text.normalize import fold, folded_languages


@dataclass(frozen=True)
class CorpusView:
    """Shows the cuts of ``corpus`` with its spelling folded; a class, since a data loader's workers pickle it.

    With ``named``, ids begin with the corpus, since two corpora of a mix may have alike ones.
    """

    corpus: str
    named: bool = False

    @property
    def changes_anything(self) -> bool:
        return self.named or bool(folded_languages(self.corpus))

    def __call__(self, cut: Cut) -> Cut:
        if folded_languages(self.corpus):
            cut = self._folded(cut)
        return cut.with_id(f"{self.corpus}/{cut.id}") if self.named else cut

    def _folded(self, cut: Cut) -> Cut:
        [supervision] = cut.supervisions
        custom = dict(supervision.custom or {})
        if translations := custom.get("translated_text"):
            custom["translated_text"] = {tgt: fold(text, tgt, self.corpus) for tgt, text in translations.items()}
        text = fold(supervision.text, supervision.language, self.corpus)
        return fastcopy(cut, supervisions=[fastcopy(supervision, text=text, custom=custom)])
