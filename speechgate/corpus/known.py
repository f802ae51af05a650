"""The corpora that there are, by the name that `--corpus` takes."""

from types import ModuleType

from speechgate.corpus import (
    common_voice,
    covost2,
    europarl_st,
    fleurs,
    mboshi,
    mls,
    mtedx,
    must_c,
    own,
    prompts,
    voxpopuli,
)
from speechgate.corpus.frame import Corpus

_FRAMED = (europarl_st, covost2, fleurs, must_c, mtedx, voxpopuli, mls, common_voice, mboshi, own)
CORPORA: dict[str, ModuleType | Corpus] = {"prompts": prompts} | {each.CORPUS.name: each.CORPUS for each in _FRAMED}
