"""Names and ids that want to be more than names and ids: none of them becomes a path, a file elsewhere, or markup.

10,000 ids and 1,000 names, drawn from what has broken other programs. What a browser makes of the names is seen in
tests/browser/test_names.py.
"""

import asyncio
import random
import re
import string
import unicodedata
from pathlib import Path

import pytest
from starlette.applications import Starlette
from ulid import ULID

from faces.datasets.own import clean_name
from pages.components import blocks
from trainer import RunConfig
from trainer.naming import plain_name
from trainer.store import Store

IDS = 10_000
NAMES = 1_000
BITS = (
    "..", "../", "..\\", "/", "\\", "//", "~", "%2e%2e%2f", "%00", "\0", "\n", "\r", " ", "*", "?", "|", ";", "&",
    "$(x)", "`x`", "'", '"', "--", "-rf", ".", "...", "C:", "NUL", "con", "/etc/passwd", "file://", "http://x/", "🙂",
    "é", "\u202e", "\u2028", "\ufeff", "０", "ｅ", "a" * 300,
)  # fmt: skip
LURES = (
    "<script>window.hacked=1</script>", "<img src=x onerror=window.hacked=1>", "<b>bold</b>", "<!--",
    "<style>*{color:red}", "<svg onload=window.hacked=1>", "<a href=javascript:window.hacked=1>x</a>",
    "[x](javascript:window.hacked=1)", "![x](http://evil.example/x.png)", "**bold**", "__bold__", "*x*", "_x_",
    "~~x~~", "`x`", "```\nx\n```", "# x", "\n# x", "- x", "\n- x", "1. x", "\n\n1) x", "> x", "\n> x",
    "| a | b |\n|---|---|\n| 1 | 2 |", "---", "\n---\n", "x\n===", "$x^2$", "$$x$$", r"\(x\)", r"\frac{a}{b}",
    ":red[x]", ":material/home:", ":smile:", ":small[x]", "{{7*7}}", "${7*7}", "&lt;b&gt;", "&amp;", "&#60;b&#62;",
    "www.evil.example", "http://evil.example", "a@evil.example", "[^1]", "[^1]: x", "- [ ] x", "\u202eabc", "\u200b",
    "\0", "\x1b[31m", "=1+1", "@x", "+x", "../x", "]]>", "</title>", "'--", '"', "\\", "\t", "x" * 80, "é", "🙂", "0",
    "a", "b", " ", "cats",
)  # fmt: skip


def hostile_ids() -> list[str]:
    """Ids of all kinds: bits put together, real ids with something wrong, random text."""
    draw, found = random.Random(0), []
    while len(found) < IDS:
        real = str(ULID.from_timestamp(draw.uniform(0, 2**31)))
        at = draw.randrange(26)
        found += [
            "".join(draw.choices(BITS, k=draw.randint(1, 6))),
            real[:at] + draw.choice(BITS) + real[at + draw.randint(0, 2) :],
            real[:at] + draw.choice("ILOU" + string.punctuation + string.ascii_lowercase) + real[at + 1 :],
            "".join(chr(draw.randrange(0x3000)) for _ in range(draw.choice((1, 26, 27)))),
        ]
    return [each for each in found if not re.fullmatch("[0-9A-HJKMNP-TV-Z]{26}", each)][:IDS]


def hostile_names() -> list[str]:
    """Names put together from lures; each lure is there alone too."""
    draw = random.Random(1)
    return [*LURES, *("".join(draw.choices(LURES, k=draw.randint(2, 5))) for _ in range(NAMES - len(LURES)))]


def test_no_id_but_a_runs_own_reaches_a_file(tmp_path):
    store = Store(tmp_path / "home")
    kept = store.folder(store.submit(RunConfig())).path
    before = sorted(tmp_path.rglob("*"))
    ids = hostile_ids()
    assert len(ids) > 0.95 * IDS
    for name in ids:
        for act in (store.folder, store.run, store.delete, store.stop, store.resume):
            with pytest.raises(ValueError, match="no run"):
                act(name)
    assert sorted(tmp_path.rglob("*")) == before
    assert kept.parent == store.files


def test_what_loads_points_and_images_gets_well_formed_names_alone():
    asked = []

    def seen(*words):
        asked.append(words)

    app = Starlette(routes=blocks.routes(seen, seen, seen, seen, seen))

    async def status(path: str) -> int:
        """What a request for this path is answered, as the server hands it on: decoded, whatever it holds."""
        told = []

        async def send(message):
            told.append(message)

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {"type": "http", "method": "GET", "path": f"/faces/{path}", "headers": [], "query_string": b""}
        await app(scope, receive, send)
        return told[0]["status"]

    async def ask() -> set[int]:
        ids = hostile_ids()
        paths = [path for name in ids for path in (f"points/{name}/0/pca-2.bin", f"facts/{name}/0.bin")]
        found = {await status(path) for path in [*paths, *(f"points/{ULID()}/0/{name}.bin" for name in ids)]}
        assert await status(f"points/{ULID()}/0/pca-2.bin") == 404
        return found

    assert asyncio.run(ask()) == {404}
    assert asked
    fine = re.compile(r"[\w.=-]+")
    assert all(re.fullmatch("[0-9A-HJKMNP-TV-Z]{26}", run) for run, *_ in asked)
    assert all(fine.fullmatch(word) for _, _, *names in asked for word in map(str, names))


def test_whatever_a_name_holds_what_is_kept_of_it_is_plain():
    cleaned = set()
    for name in hostile_names():
        try:
            clean = clean_name(name)
        except ValueError:  # nothing is left of it
            assert not any(letter.isalnum() for letter in name[:64])
            continue
        assert re.fullmatch(r"[^\W_][\w .-]{0,63}", clean), (name, clean)
        assert not {unicodedata.category(letter) for letter in clean} & {"Cc", "Cf", "Zl", "Zp", "So"}
        assert clean_name(clean) == clean
        cleaned.add(clean)
    assert len(cleaned) > 300


def test_whatever_a_name_holds_a_file_called_after_it_stays_in_its_folder():
    here = Path("/somewhere/exports")
    for name in hostile_names():
        file = here / f"{plain_name(name)}.zip"
        assert file.parent == here
        assert re.fullmatch(r"[\w.-]{1,48}\.zip", file.name, re.ASCII)
        assert not file.name.startswith((".", "-"))
