"""Known holes in what Faces installs: python -m tests.audit (asks the network; needs uv).

It fails when a package has one, and as well when a package could not be looked up: a silent auditor proves nothing.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HASHES, CLUSTER = (Path(__file__).parent / name for name in ("hashes.txt", "hashes-cluster.txt"))
LOCKS = [HASHES, CLUSTER]
AUDIT = ["uv", "tool", "run", "--from", "pip-audit==2.10.1", "pip-audit", "--disable-pip", "--no-deps"]

Pin = tuple[str, str]  # name and version


def pinned(text: str) -> list[Pin]:
    """Each package of a requirements file, for whichever machine; a name may have several versions."""
    found = re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==([^\s;\\]+)", text, re.MULTILINE)
    return [(re.sub(r"[-_.]+", "-", name).lower(), version) for name, version in found]


def parted(wanted: list[Pin]) -> list[dict[str, str]]:
    """The same packages with at most one version of a name in each part: pip-audit refuses a second one."""
    parts: list[dict[str, str]] = []
    for name, version in wanted:
        part = next((part for part in parts if part.get(name, version) == version), None)
        if part is None:
            parts.append(part := {})
        part[name] = version
    return parts


def faults(told: list[dict[str, Any]], wanted: list[Pin]) -> list[str]:
    """What is wrong by what pip-audit told, a sentence each; nothing if all of `wanted` was looked up and is well."""
    looked_up = {(each["name"], each["version"]): each["vulns"] for each in told if "vulns" in each}
    found = [f"{name} {version} was not looked up." for name, version in wanted if (name, version) not in looked_up]
    for (name, version), holes in looked_up.items():
        for hole in holes:
            mended = ", ".join(hole.get("fix_versions", [])) or "no version yet"
            found.append(f"{name} {version} has {hole['id']}; mended in {mended}.")
    return found


def main() -> int:
    """Ask about every package, whichever machine it is for, and say what was found."""
    wanted, told = sorted({pin for lock in LOCKS for pin in pinned(lock.read_text("utf-8"))}), []
    for part in parted(wanted):
        with TemporaryDirectory() as folder:
            file = Path(folder) / "requirements.txt"  # no markers: pip-audit would skip lines for other machines
            file.write_text("".join(f"{name}=={version}\n" for name, version in part.items()), "utf-8")
            asked = subprocess.run([*AUDIT, "-r", str(file), "-f", "json"], capture_output=True, text=True, check=False)
        try:
            told += json.loads(asked.stdout)["dependencies"]
        except ValueError:
            print(f"The audit told nothing: {asked.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
            return 2
    found = faults(told, wanted)
    print("\n".join(found) or "Nothing known, and everything was looked up.")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
