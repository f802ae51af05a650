from pathlib import Path

import pytest

from speechgate.corpus import prompts


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the bundled slice prepared; tests must not change it."""
    data_dir = tmp_path_factory.mktemp("data")
    prompts.download(data_dir, "bundled")
    prompts.prepare(data_dir, workers=2)
    return data_dir
