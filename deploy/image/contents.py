"""What an image holds, from exact locks: what to install, and the software bill of materials.

python3 contents.py requirements PYPROJECT LOCK...   the locks without what only development needs
python3 contents.py sbom PYPROJECT LOCK...           CycloneDX 1.6: those, and the Debian packages of this system

Where two locks name one distribution the later one counts.

Standard library alone: it runs before anything is installed.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote

#: What the extra `dev` names and something that runs asks for too.
NEEDED = frozenset({"jsonschema"})


def development(project: str) -> set[str]:
    """Distributions that the extra `dev` of this pyproject.toml names: an image neither lints nor tests."""
    extra = tomllib.loads(project)["project"]["optional-dependencies"]["dev"]
    return {re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0] for requirement in extra} - NEEDED


def pinned(lock: str, left_out: set[str]) -> dict[str, str]:
    """Distribution to version, of what an image installs; the last line about a distribution counts.

    Raises:
        ValueError: a line is no exact version.
    """
    found = {}
    for line in lock.splitlines():
        if not line or line.startswith("#"):
            continue
        if not (pin := re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s;]+)", line)):
            raise ValueError(f"{line!r} names no exact version")
        if pin[1] not in left_out:
            found[pin[1]] = pin[2]
    return found


def bill(python: dict[str, str], debian: dict[str, str], lock: str) -> dict[str, Any]:
    """A CycloneDX document; the same packages give the same document, whenever it is made.

    Args:
        python: distribution to version.
        debian: package to version.
        lock: text of the locks, for the serial number.
    """
    named = [(f"pkg:pypi/{name}@{quote(version)}", name, version) for name, version in python.items()]
    named += [(f"pkg:deb/debian/{quote(name)}@{quote(version)}", name, version) for name, version in debian.items()]
    named.sort()
    serial = uuid.UUID(bytes=hashlib.sha256("\n".join([lock, *(purl for purl, _, _ in named)]).encode()).digest()[:16])
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": "leeway"}},
        "components": [
            {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
            for purl, name, version in named
        ],
    }


def installed_debian() -> dict[str, str]:
    """Package to version, by dpkg."""
    command = ["dpkg-query", "--show", "--showformat", "${Package} ${Version}\n"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return dict(line.split() for line in listed.stdout.splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["requirements", "sbom"])
    parser.add_argument("project", type=Path)
    parser.add_argument("locks", type=Path, nargs="+")
    arguments = parser.parse_args()
    lock = "\n".join(path.read_text() for path in arguments.locks)
    python = pinned(lock, development(arguments.project.read_text()))
    if arguments.what == "requirements":
        sys.stdout.write("".join(f"{name}=={version}\n" for name, version in python.items()))
    else:
        json.dump(bill(python, installed_debian(), lock), sys.stdout, indent=1)


if __name__ == "__main__":
    main()
