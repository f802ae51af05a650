"""Running the scripts of a checkout in a folder of its own, and what they called there."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Checkout:
    """A folder with scripts of this repository, and with fakes for what they call."""

    root: Path

    def run(
        self, *command: str, environment: dict[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run ``command`` in the folder with PATH, HOME and ``environment`` as its only variables."""
        plain = {"PATH": os.environ["PATH"], "HOME": str(self.root)}
        return subprocess.run(
            command,
            cwd=self.root,
            env=plain | (environment or {}),
            check=check,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )

    def make(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("make", *words, environment=environment)

    @property
    def calls(self) -> list[list[str]]:
        """Name and arguments of each program called so far, in order."""
        recorded = (self.root / "calls.txt").read_text(encoding="utf-8").strip("\n").split("\n\n")
        calls = [block.split("\n") for block in recorded]
        return [[Path(program).name, *arguments] for program, *arguments in calls]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the last call was given."""
        lines = (self.root / "environment.txt").read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
