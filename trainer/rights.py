"""Who may do what: persons, their roles, one `authorize`, and limits for a server that a class shares.

Without a class there is one person, the owner of the machine, who may do everything. A class has teachers, who may do
everything too, students, who see all and change what is theirs, and viewers, who look. What a run's `owner` is compared
with is a person's tag: names may be the same, tags are not.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from threading import Lock
from typing import NamedTuple

from trainer.config import RunConfig

ROLES = ("viewer", "student", "teacher")
ANY, OWN, NONE = "any", "own", "none"


class RefusedError(PermissionError, ValueError):
    """A refusal, in one sentence for the person who asked. A ValueError too: pages tell those already."""


class Rule(NamedTuple):
    """An action in words, what it is done to, and to whose things students and viewers may do it: any, own, none."""

    doing: str
    thing: str
    student: str
    viewer: str = NONE


ACTIONS = {
    "look": Rule("look at", "runs", ANY, ANY),  # and have pictures of them drawn
    "submit": Rule("train", "runs", OWN),
    "turn": Rule("turn the knobs of", "runs", OWN),
    "stop": Rule("stop", "work", OWN),
    "resume": Rule("go on with", "runs", OWN),
    "delete": Rule("delete", "runs", OWN),
    "pin": Rule("pin", "runs", OWN),
    "pause": Rule("pause the pictures of", "runs", OWN),
    "export": Rule("prepare", "exports", ANY),
    "open": Rule("open", "recorded runs", ANY),
    "bring": Rule("bring", "images and embeddings", OWN),
    "decode": Rule("decode", "datasets", ANY),
    "path": Rule("read", "files of the server", NONE),
    "fetch": Rule("download", "datasets", NONE),
    "remove": Rule("remove", "datasets", NONE),
    "tidy": Rule("let go", "what takes room on the disk", NONE),
}


@dataclass(frozen=True)
class Limits:
    """How much one student may ask for."""

    queued: int = 20  # runs that wait or train
    kept: int = 300  # runs in all
    sweep: int = 200  # runs of a sweep
    epochs: int = 30  # of a run
    minutes: int = 15  # that a run trains at a stretch
    size: int = 128  # side of its images, pixels
    probe: int = 5000  # validation images in its picture
    upload: int = 200  # MB in a file that is brought
    uploads: int = 20  # files in a day

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 1 if field.name == "minutes" else 0
            if type(value) is not int or value < least:
                raise ValueError(f"The limit {field.name} is a whole number, {least} or more, not {value!r}.")

    def check(self, config: RunConfig) -> None:
        """RefusedError for a run that is larger than a student's may be."""
        for name, most, unit in (("epochs", self.epochs, ""), ("size", self.size, " px"), ("probe", self.probe, "")):
            if (asked := getattr(config, name)) > most:
                raise RefusedError(f"{name} = {asked}{unit} is more than students may have here; take {most} or less.")

    def room(self, what: str, there: int, more: int = 1) -> None:
        """RefusedError when `more` of what a person has `there` already, by the name of its limit, are too many."""
        most = getattr(self, what)
        thing, hint = {
            "queued": ("runs that wait or train", "wait until some have ended"),
            "kept": ("runs", "delete some first"),
            "sweep": ("runs in one sweep", "take fewer steps or seeds"),
            "uploads": ("files in a day", "come back tomorrow"),
        }[what]
        if there + more > most:
            has = f", and you have {there}" if there else f", not {more}"
            raise RefusedError(f"A student may have {most} {thing} here{has}; {hint}, or ask a teacher.")


@dataclass(frozen=True)
class Person:
    """Somebody who asks. The owner of the machine has no tag, and what nobody of a class began is theirs.

    `acting` for a person, the trainer does what that person began, as far as it takes. `minutes` is how long a run of
    theirs trains at a stretch, 0: as long as it takes; for who has limits it is one of them.
    """

    name: str = ""
    role: str = "owner"
    tag: str = ""
    limits: Limits | None = None
    minutes: int = 0

    def __post_init__(self) -> None:
        if self.limits:
            object.__setattr__(self, "minutes", self.limits.minutes)

    @property
    def owner(self) -> str:
        """What runs of this person are marked with."""
        return f"{self.name}#{self.tag}" if self.tag else ""

    def owns(self, owner: str) -> bool:
        """Whether something with this mark is theirs. What nobody of the class began is no student's."""
        return bool(self.tag) and owner.rpartition("#")[2] == self.tag

    @classmethod
    def acting(cls, owner: str, minutes: int = 0) -> "Person":
        """Who may do everything in the name of an owner, whose runs train for so many minutes at a stretch."""
        name, _, tag = owner.rpartition("#")
        return cls(name, tag=tag, minutes=minutes)


OWNER = Person()


def called(owner: str) -> str:
    """The name of an owner, without the tag; "" for nobody of a class."""
    return owner.rpartition("#")[0]


def refusal(person: Person, action: str, owner: str | None = None) -> str:
    """Why a person may not do this, in a sentence; "" when they may.

    `owner` is the mark of the thing it is done to, None where it is new or nobody's in particular.
    """
    rule = ACTIONS[action]
    whom = {"owner": ANY, "teacher": ANY, "student": rule.student, "viewer": rule.viewer}[person.role]
    if whom == ANY or (whom == OWN and (owner is None or person.owns(owner))):
        return ""
    if whom == OWN:
        whose = f"this is {called(owner or '')}'s" if called(owner or "") else "this is not yours"
        return f"Students {rule.doing} their own {rule.thing} only, and {whose}; ask a teacher."
    able = "teachers" if rule.student == NONE else "students and teachers"
    return f"Only {able} may {rule.doing} {rule.thing} here; you are here as a {person.role}."


def authorize(person: Person, action: str, owner: str | None = None) -> None:
    """The one place where a person is let through or refused. RefusedError says what was asked and who may do it."""
    if why := refusal(person, action, owner):
        raise RefusedError(why)


class Pace:
    """At most `most` times within `seconds`, for each who asks; on a clock that is never set back."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic):
        self.most, self.seconds, self.clock = most, seconds, clock
        self._times: dict[str, deque[float]] = {}
        self._guard = Lock()

    def take(self, who: str) -> None:
        """Count one; RefusedError, and nothing counted, when there have been too many."""
        with self._guard:
            times = self._recent(who)
            if len(times) >= self.most:
                wait = self.seconds - (self.clock() - times[0])
                raise RefusedError(f"That is too much at once; try again in {max(1, round(wait))} s.")
            times.append(self.clock())

    def full(self, who: str) -> bool:
        """Whether one more would be too many."""
        with self._guard:
            return len(self._recent(who)) >= self.most

    def _recent(self, who: str) -> deque[float]:
        now = self.clock()
        if len(self._times) > 10_000:
            self._times = {name: each for name, each in self._times.items() if each and each[-1] > now - self.seconds}
        times = self._times.setdefault(who, deque())
        while times and times[0] <= now - self.seconds:
            times.popleft()
        return times


WRITES = Pace(120, 60.0)  # of a person of a class, in this process: a hand at a slider does not reach it
