"""What a piece of code makes the device compute."""

from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

# These make room for a result, or look at one in another way: nothing runs on the device.
NOTHING = {"alias", "as_strided", "detach", "expand", "lift_fresh", "permute", "select", "slice", "split"}
NOTHING |= {"split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze", "view", "_unsafe_view"}
NOTHING |= {
    "_local_scalar_dense",
    "_reshape_alias",
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "promote_types",
}


class Operations(TorchDispatchMode):
    """Counts operations by name, those that autograd adds too, while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function._schema.name.split("::")[1]
        if name not in NOTHING:
            self.count[name] += 1
        return function(*args, **(kwargs or {}))
