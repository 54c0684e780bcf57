"""A class on one server: what the secrets say of it, and who somebody is by a code or by a sign-in.

    [class]                                  # in .streamlit/secrets.toml
    teacher = "a code for teachers"          # who gives it with a name is one
    student = "a code for the class"
    viewer = "a code to look only"
    limits = { queued = 20, epochs = 30 }    # of a student (`trainer.rights.Limits`)
    people = 100                             # that may be there at once; a teacher comes in all the same

With a section [auth] for Streamlit's `st.login`, roles go by the e-mail address of who signed in instead:

    [class]
    teachers = ["ada@school.example"]
    students = ["@school.example"]           # everybody there
    viewers = []
    others = "viewer"                        # whoever else can sign in; without this line nobody else comes in
    unverified = true                        # for a provider that does not say which addresses it has verified

A person is known by a tag. With codes it follows from the name and a word of their own, so that the same two are the
same person on any computer, and nobody is kept in a list; with a sign-in from the provider's own id. The tag is public,
but cannot be guessed from a name: it takes the key of this home.
"""

import base64
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from filelock import FileLock

from faces.datasets.own import clean_name
from faces.files import commit, make
from trainer.rights import ROLES, Limits, Pace, Person, RefusedError

SHORTEST = 6  # letters of a code
LISTS = {"teacher": "teachers", "student": "students", "viewer": "viewers"}
PEOPLE = 100  # at once, unless the secrets say otherwise
OTHER = ("others", "unverified", "limits", "people")
WRONG, WRONG_OF_ALL = Pace(10, 60.0), Pace(100, 60.0)  # codes of one address, and of all


@dataclass(frozen=True)
class Classroom:
    """How people come in: by codes (role -> code), or, where they sign in, by their addresses (role -> addresses)."""

    codes: Mapping[str, str]
    addresses: Mapping[str, tuple[str, ...]]
    others: str
    unverified: bool
    limits: Limits
    people: int
    signs_in: bool

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> "Classroom | None":
        """The class that the secrets tell of, None where there is none. ValueError for a wrong one."""
        signs_in = "auth" in told
        if "class" not in told and not signs_in:
            return None
        section = told.get("class", {})
        if not isinstance(section, Mapping):
            raise ValueError("[class] is a section of the secrets, with a code for each role.")
        known = [*(LISTS.values() if signs_in else ROLES), *(OTHER if signs_in else OTHER[-2:])]
        if wrong := [name for name in section if name not in known]:
            why = "with [auth]" if signs_in else "without [auth]"
            raise ValueError(f"[class] of the secrets knows no {wrong[0]!r} {why}; it knows {', '.join(known)}.")
        codes = {role: str(section[role]).strip() for role in ROLES if role in section}
        if wrong := [role for role, code in codes.items() if len(code) < SHORTEST]:
            raise ValueError(f"The code of a {wrong[0]} is too short; take {SHORTEST} letters or more.")
        if len(set(codes.values())) < len(codes):
            raise ValueError("Two roles of [class] have the same code; each needs its own.")
        addresses = {role: tuple(str(one).casefold() for one in section.get(name, ())) for role, name in LISTS.items()}
        others = section.get("others", "")
        if others not in ("", *ROLES):
            raise ValueError(f"others = {others!r} is no role; take {', '.join(ROLES)}.")
        limits, numbers = section.get("limits", {}), {field.name for field in fields(Limits)}
        if not isinstance(limits, Mapping) or set(limits) - numbers:
            raise ValueError(f"The limits of [class] are numbers by name: {', '.join(sorted(numbers))}.")
        unverified = section.get("unverified", False) is True
        people = section.get("people", PEOPLE)
        if type(people) is not int or people < 1:
            raise ValueError(f"people is how many may be there at once, a whole number from 1, not {people!r}.")
        return cls(codes, addresses, others, unverified, Limits(**limits), people, signs_in)

    def admit(self, code: str, name: str, word: str, key: bytes, address: str) -> dict[str, str]:
        """What to remember of who gives a code, a name and a word of their own, for `person`; without a word, of this
        browser only. RefusedError for a wrong code, and after too many from one `address`; ValueError for no name.
        """
        if WRONG.full(address) or WRONG_OF_ALL.full(""):
            raise RefusedError("Too many wrong codes; try again in a minute.")
        given = code.strip().encode()
        role = "".join(role for role, known in self.codes.items() if hmac.compare_digest(known.encode(), given))
        if not role:
            WRONG.take(address)
            WRONG_OF_ALL.take("")
            raise RefusedError("This is no code of this class.")
        name = clean_name(name)
        word = word.strip() or secrets.token_hex(16)
        return {"name": name, "tag": tag(key, "code", name.casefold(), word), "code": self._mark(role, key)}

    def person(self, told: Mapping[str, Any], key: bytes) -> Person | None:
        """Who that is, by what is remembered of them and by what the secrets say now; None for nobody of this class."""
        if not told.get("is_logged_in"):
            return None
        if self.signs_in:
            role, name = self._role(told), str(told.get("name") or "")
            mark = tag(key, "sign-in", str(told.get("iss", "")), str(told.get("sub", "")))
        else:
            given = str(told.get("code", ""))
            role = "".join(role for role in self.codes if hmac.compare_digest(self._mark(role, key), given))
            name, mark = str(told.get("name", "")), str(told.get("tag", ""))
        if not role or not mark:
            return None
        try:
            name = clean_name(name)
        except ValueError:
            name = "Somebody"
        return Person(name, role, mark, None if role == "teacher" else self.limits)

    def _role(self, told: Mapping[str, Any]) -> str:
        """The highest role of an address that the provider has verified."""
        if not told.get("sub"):
            return ""
        verified = self.unverified or told.get("email_verified") in (True, "true")
        address = str(told.get("email", "")).casefold() if verified else ""
        known = {address, f"@{address.rpartition('@')[2]}"} if "@" in address else set[str]()
        return next((role for role in reversed(ROLES) if known & set(self.addresses[role])), self.others)

    def _mark(self, role: str, key: bytes) -> str:
        """Stands for a role's present code: who came in by an earlier one is out."""
        return _digest(key, "code", role, self.codes[role]).hex()[:32]


def tag(key: bytes, *words: str) -> str:
    """Eight letters and digits that stand for these words, and for no others by chance: one in 10^12."""
    return base64.b32encode(_digest(key, "tag", *words)[:5]).decode().lower()


def derived(key: bytes, use: str) -> str:
    """Another key for another use, as hexadecimal digits."""
    return _digest(key, "key", use).hex()


def home_key(home: Path) -> bytes:
    """The key of a home, made at the first use; the file is its user's alone to read."""
    file = home / "key"
    make(home)
    with FileLock(home / "key.lock"):
        if not file.exists():
            part = home / ".key.tmp"
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
                out.write(secrets.token_bytes(32))
            commit(part, file)
        key = file.read_bytes()
    if len(key) < 32:
        raise ValueError(f"{file} is no key; remove it, and a new one is made.")
    return key


def _digest(key: bytes, *words: str) -> bytes:
    return hmac.new(key, json.dumps(words).encode(), hashlib.sha256).digest()
