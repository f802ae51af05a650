from pathlib import Path

import pytest

from speechgate.corpus import prompts
from speechgate.manifests.cuts import read_cuts
from tests.corpus.clips import Clip, clip_of


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
