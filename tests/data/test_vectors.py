"""Vectors of the manifest reach the batch, and wrong ones are refused by the cut's name."""

import numpy as np
import pytest
import torch
from lhotse import CutSet
from lhotse.features.io import NumpyFilesWriter
from lhotse.testing.dummies import dummy_cut

from speechgate.data.vectors import load_vectors
from speechgate.errors import ManifestError


def cut_with(value: object, index: int = 0):
    cut = dummy_cut(index)
    cut.custom = {} if value is None else {"speaker": value}
    return cut


def test_lists_arrays_and_missing_vectors(tmp_path):
    stored = dummy_cut(1)
    with NumpyFilesWriter(tmp_path / "vectors") as writer:
        stored.speaker = writer.store_array("one", np.array([4.0, 5.0], dtype=np.float32))
    cuts = [cut_with([1.0, 2.0]), stored, cut_with(None)]
    path = tmp_path / "cuts.jsonl"
    CutSet.from_cuts([cut.with_id(str(i)) for i, cut in enumerate(cuts)]).to_file(path)
    found = load_vectors(list(CutSet.from_file(path)), {"speaker": 2})
    torch.testing.assert_close(
        found["speaker"], torch.tensor([[1.0, 2.0], [4.0, 5.0], [float("nan")] * 2]), equal_nan=True
    )
    assert load_vectors(cuts, {}) == {}


@pytest.mark.parametrize("value", [[1.0, 2.0, 3.0], [1.0, float("inf")], "words", [[1.0, 2.0]]])
def test_what_is_no_such_vector_is_refused(value):
    with pytest.raises(ManifestError, match=r"cut dummy.*0.*speaker"):
        load_vectors([cut_with(value)], {"speaker": 2})
