"""Knobs: the numbers that a person turns, declared beside the code that reads them.

A knob carries its own default, range and meaning, so a page only loops over knobs to draw its
sliders, and `settle` is the one place where given values are checked. No torch here.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Number = float | int
Value = Number | str
Values = Mapping[str, Value]


@dataclass(frozen=True)
class Knob:
    """A number with its range. A whole default makes it a whole number.

    `default` may be a function of the number of classes (`fixed_scale` is one). `meaning` ends
    with the unit or "no unit". A knob that is not `live` takes effect only in a new run. `neutral` is
    where a margin asks for nothing, and None for a knob that is no margin.
    """

    default: Number | Callable[[int], Number]
    low: Number
    high: Number
    meaning: str
    live: bool = True
    neutral: Number | None = None

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int) and isinstance(self.default, int)

    def start(self, classes: int) -> Number:
        """The default for a problem with this many classes."""
        return self.default(classes) if callable(self.default) else self.default

    def check(self, name: str, value: Value) -> Number:
        """The value as a number of the knob's kind; ValueError when it is out of range or no number."""
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not math.isfinite(value)
            or (self.whole and value != int(value))
        ):
            kind = "a whole number" if self.whole else "a number"
            raise ValueError(f"{name} = {value!r} is not {kind}. {name}: {self.meaning}, {self.low} to {self.high}.")
        if not self.low <= value <= self.high:
            raise ValueError(f"{name} = {value} is out of range. {name}: {self.meaning}, {self.low} to {self.high}.")
        return int(value) if self.whole else float(value)


@dataclass(frozen=True)
class Choice:
    """One of a few names, the first of which is the default."""

    options: tuple[str, ...]
    meaning: str
    live: bool = True

    def start(self, classes: int) -> str:
        return self.options[0]

    def check(self, name: str, value: Value) -> str:
        """The value itself; ValueError when it is none of the options."""
        if value not in self.options:
            raise ValueError(f"{name} = {value!r} is unknown. {name}: {self.meaning}, one of {list(self.options)}.")
        return str(value)


# Past theta + m = pi; faces/heads/angle.py says what each does.
SEAM = Choice(
    ("cos_minus_m_sin_m", "keep_theta", "raw_cos", "clamp_pi", "psi_monotone"),
    "own-class value past theta + m = pi",
)


def settle(knobs: Mapping[str, Knob | Choice], given: Values, classes: int) -> dict[str, Value]:
    """Every knob's value: the given one, checked, or else its default for this many classes.

    Raises ValueError for a name that is no knob here and for a value that does not fit.
    """
    if unknown := sorted(set(given) - set(knobs)):
        raise ValueError(f"Unknown knob {unknown}. Knobs here: {list(knobs)}.")
    return {name: knob.check(name, given.get(name, knob.start(classes))) for name, knob in knobs.items()}


def raised(knobs: Mapping[str, Knob | Choice], wanted: Values, share: float) -> dict[str, Value]:
    """The margins among the knobs after a share of their way, in a line from asking for nothing to what is wanted.

    From 1 on they are what is wanted, to the bit. Empty for knobs without a margin.
    """
    ends = {
        name: (knob.neutral, float(wanted[name]))
        for name, knob in knobs.items()
        if isinstance(knob, Knob) and knob.neutral is not None
    }
    return {name: end if share >= 1 else start + share * (end - start) for name, (start, end) in ends.items()}


def fixed_scale(classes: int) -> float:
    """The default s: sqrt(2) * ln(C - 1) (AdaCos, arXiv:1905.00292, eq. 12).

    With two classes that formula gives 0 and nothing would train, so C = 2 takes CosFace's lower
    bound for a probability of 0.999 (`scale_bound`). Fewer than two classes: ValueError.
    """
    if classes < 2:
        raise ValueError(f"A head needs at least 2 classes to tell apart; {classes} given.")
    return math.sqrt(2) * math.log(classes - 1) if classes > 2 else scale_bound(2, 0.999)


def scale_bound(classes: int, probability: float) -> float:
    """The smallest s at which a perfect sample can reach this probability: (C-1)/C * ln((C-1)P / (1-P)).

    CosFace, arXiv:1801.09414, section 3.3.
    """
    others = classes - 1
    return others / classes * math.log(others * probability / (1 - probability))
