"""What a training run keeps on disk: a checkpoint that is never half written, and a log."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

FORMAT = 1
NAME, LOG = "checkpoint.pt", "log.jsonl"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write the state into the folder: afterwards the file is the old or the new one.

    One process a folder may write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".checkpoint-*"):  # by a process that was killed meanwhile
        left.unlink(missing_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".checkpoint-")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)  # it can be read only by setting it
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp's file is for its owner only
        os.replace(temporary, folder / NAME)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The state in the folder, on the CPU, or None if there is none.

    Raises:
        ValueError: the file is damaged or of another program.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise ValueError(
            f"{path} is damaged or no checkpoint ({type(error).__name__}); remove it to "
            "start anew, or restore it"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(
            f"{path} is no checkpoint of this program (format {FORMAT}); name another folder"
        )
    return state


class Log:
    """One line of JSON an event. On resuming, lines after the checkpoint are dropped.

    Args:
        folder: where `log.jsonl` is.
        step: steps that the checkpoint has seen; 0 starts anew.
    """

    def __init__(self, folder: Path, step: int):
        """Open the file, shortened to what the checkpoint has seen."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / LOG
        kept = (
            [line for line in read_log(folder) if line["step"] <= step] if step else []
        )
        text = "".join(json.dumps(line) + "\n" for line in kept)
        path.write_text(text, encoding="utf-8")
        self.file = path.open("a", encoding="utf-8")

    def write(self, **event: Any) -> None:
        """Add a line, at once."""
        self.file.write(json.dumps(event) + "\n")
        self.file.flush()

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The events in the log of a folder; a last line that was cut off is left out."""
    path = folder / LOG
    if not path.is_file():
        return []
    events = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            break  # the run was killed while it wrote
    return events
