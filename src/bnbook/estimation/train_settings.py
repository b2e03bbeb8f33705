"""The settings of a training run: from a file, changed on the command line, checked."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import yaml

from bnbook.estimation.convert import METHODS, OPTIONS

FOLDER = Path(__file__).parent / "configurations"
NAMES = ("laptop", "imagenet")
PRECISIONS = ("float64", "float32", "mixed")
OPTIMIZERS = ("sgd", "rmsprop")
# A run may go on with other values of these; see `same_run`.
FREE = ("updates", "checkpoint_every", "evaluate_every", "loader_processes", "data")


@dataclass(frozen=True)
class Settings:
    """Everything that a run depends on; `configurations/imagenet.yml` explains the names.

    Raises:
        ValueError: a value is of the wrong type or out of its range.
    """

    model: str
    width: int | None
    classes: int
    image_size: int
    data: str
    examples: int | None
    validation: int | None
    loader_processes: int
    method: str
    options: dict
    workers: int
    batch: int
    updates: int
    warm_up: int
    settle_updates: int
    settle_steps: int
    statistics_rate: float
    dropout: float
    noise_scale: float
    noise_shift: float
    optimizer: str
    learning_rate: float
    inertia: float
    weight_decay: float
    clip: float | None
    decay: float
    decay_every: int
    bias_decay_speed: float
    last_layer_rate: float
    precision: str
    seed: int
    checkpoint_every: int
    evaluate_every: int

    def __post_init__(self):
        """Refuse what could not be run."""
        for field in fields(self):
            value = getattr(self, field.name)
            kinds = field.type.__args__ if hasattr(field.type, "__args__") else ()
            kinds = kinds or (field.type,)
            if float in kinds and type(value) in (int, str) and _is_number(value):
                # YAML takes 1e-3, without a point, for a text.
                object.__setattr__(self, field.name, float(value))
            elif type(value) not in kinds:
                names = " or ".join(getattr(k, "__name__", str(k)) for k in kinds)
                raise ValueError(f"{field.name} must be {names}, got {value!r}")
        for name, allowed in (
            ("method", METHODS),
            ("precision", PRECISIONS),
            ("optimizer", OPTIMIZERS),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        if unknown := set(self.options) - set(OPTIONS[self.method]):
            raise ValueError(
                f"{self.method} has no option {', '.join(sorted(unknown))}; it has "
                f"{', '.join(OPTIONS[self.method]) or 'none'}"
            )
        if self.options.get("seen_by") == "second":
            raise ValueError(
                "seen_by=second leaves the running statistics to the second tower, and the "
                "steps without updates run the first only; use both or first"
            )
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name} must lie in {low} to {high}, got {value}")
        if self.settle_steps and self.settle_updates > self.updates:
            raise ValueError(
                f"settle_updates must be at most updates, got {self.settle_updates} and "
                f"{self.updates}"
            )

    # The plan of the run: a step takes one batch, and moves the statistics; some of them
    # update the weights too.

    @property
    def steps(self) -> int:
        """Number of steps in all."""
        return self.warm_up + self.settle_updates * self.settle_steps + self.updates

    def updates_before(self, step: int) -> int:
        """How many of the steps 0 … step − 1 update the weights."""
        after = max(step - self.warm_up, 0)
        block = 1 + self.settle_steps
        settled = min(-(-after // block), self.settle_updates)
        return settled + max(after - self.settle_updates * block, 0)

    def is_update(self, step: int) -> bool:
        """Whether the step updates the weights."""
        return self.updates_before(step + 1) > self.updates_before(step)

    def rate(self, update: int, *, bias: bool = False, last: bool = False) -> float:
        """Learning rate of an update, counted from 0, for a weight or a bias."""
        speed = self.bias_decay_speed if bias else 1.0
        start = self.learning_rate * (self.last_layer_rate if last else 1.0)
        return start * self.decay ** (speed * update / self.decay_every)


def _is_number(value: int | str) -> bool:
    try:
        return not math.isnan(float(value))
    except ValueError:
        return False


_COUNT = (1, 10**12)
_RANGES = (
    *((name, *_COUNT) for name in ("width", "classes", "image_size", "examples")),
    *((name, *_COUNT) for name in ("validation", "workers", "batch", "updates")),
    *(
        (name, *_COUNT)
        for name in ("decay_every", "checkpoint_every", "evaluate_every")
    ),
    *((name, 0, 10**12) for name in ("loader_processes", "warm_up", "seed")),
    *((name, 0, 10**12) for name in ("settle_updates", "settle_steps")),
    *((name, 0.0, 1.0) for name in ("dropout", "noise_scale", "inertia", "decay")),
    *((name, 0.0, math.inf) for name in ("noise_shift", "learning_rate", "clip")),
    *((name, 0.0, math.inf) for name in ("weight_decay", "bias_decay_speed")),
    ("last_layer_rate", 0.0, math.inf),
    ("statistics_rate", 1e-6, 1.0),
)


def load_settings(source: Path | str, changes: Sequence[str] = ()) -> Settings:
    """Read settings from a YAML file and change some.

    Args:
        source: "laptop", "imagenet", or the path of a file.
        changes: texts such as "batch=8", "options.r_m=0.5" or "options={}".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file or a change is not understood, or a setting is unknown,
            missing or out of its range.
    """
    path = FOLDER / f"{source}.yml" if source in NAMES else Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"there are no settings {source}; use {' or '.join(NAMES)}, or a file like them"
        )
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name} is no YAML: {error}") from error
    known = {field.name for field in fields(Settings)}
    if not isinstance(values, dict) or set(values) != known:
        given = set(values) if isinstance(values, dict) else set()
        raise ValueError(
            f"{path.name} must hold exactly the settings of imagenet.yml; missing are "
            f"{sorted(known - given)}, unknown {sorted(map(str, given - known))}"
        )
    for change in changes:
        _change(values, change, known)
    return Settings(**values)


def _change(values: dict, change: str, known: set[str]) -> None:
    name, equals, text = change.partition("=")
    first, _, option = name.partition(".")
    if not equals or first not in known or (option and first != "options"):
        raise ValueError(
            f"a change is name=value with the name of a setting, got {change!r}; the "
            f"settings are {', '.join(sorted(known))}"
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"the value in {change!r} is no YAML: {error}") from error
    if option:
        values["options"] = {**values["options"], option: value}
    else:
        values[first] = value


def same_run(one: dict, other: Settings) -> None:
    """Refuse to go on with a run under other settings.

    The number of updates, how often to store, and where the data lie may change.

    Raises:
        ValueError: something else differs; the message says what, and how to mend it.
    """
    now = asdict(other)
    differing = [n for n in now if n not in FREE and one.get(n) != now[n]]
    if "method" in differing:
        raise ValueError(
            f"the checkpoint is of the method {one.get('method')}, this run of "
            f"{other.method}; name another folder for this run, or go on with "
            f"method={one.get('method')}"
        )
    if differing:
        told = ", ".join(f"{n} ({one.get(n)!r}, now {now[n]!r})" for n in differing)
        raise ValueError(
            f"the checkpoint is of a run with other settings: {told}; name another folder "
            "for this run, or go on with those"
        )
