from pathlib import Path

import pytest

from speechgate.corpus import frame, prompts
from speechgate.corpus.known import CORPORA
from speechgate.manifests.cuts import read_cuts
from speechgate.manifests.quality import Quality
from tests.corpus.clips import Clip, clip_of
from tests.corpus.layouts import LAYOUTS, Expected


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the bundled slice prepared; tests must not change it."""
    data_dir = tmp_path_factory.mktemp("data")
    prompts.download(data_dir, "bundled")
    prompts.prepare(data_dir, workers=2)
    return data_dir


@pytest.fixture(scope="session")
def clips(prepared: Path) -> list[Clip]:
    """Real Italian recordings with their text in five languages."""
    cuts = [cut for path in prompts.manifest_paths(prepared).values() for cut in read_cuts(path)]
    italian = [cut for cut in cuts if cut.supervisions[0].language == "ita" and 0.8 < cut.duration < 4]
    return [clip for cut in sorted(italian, key=lambda cut: cut.id) if len((clip := clip_of(cut)).texts) == 5]


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory, clips: list[Clip]) -> tuple[Path, dict[str, Expected]]:
    """A data folder with every corpus prepared, and what each should hold; tests must not change it."""
    folder = tmp_path_factory.mktemp("corpora")
    expected = {}
    with pytest.MonkeyPatch.context() as patch:
        # A trap in ten utterances is more than the thresholds of real corpora allow.
        patch.setattr(frame, "load_quality", lambda path: Quality(max_bad_percent=40))
        for name, make in LAYOUTS.items():
            (folder / "raw" / name).mkdir(parents=True)
            expected[name] = make(folder / "raw" / name, clips)
            CORPORA[name].download(folder / "data", str(folder / "raw" / name))
            CORPORA[name].prepare(folder / "data", workers=1)
    return folder, expected
