"""Holds the documentation against the tree and the program: every relative link in a *.md file leads somewhere, every
option in a fenced `farskip VERB` command of README.md or docs/ exists, and docs/cli.md names every option of every verb.

    .venv/bin/python scripts/check_docs.py [--binary build/farskip]
"""
import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def documents():
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).exists()]


def dead_links(path):
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for target in targets:
        file = target.split("#")[0]
        if file and not re.match(r"[a-z]+:", target) and not (path.parent / file).exists():
            yield f"{path.relative_to(ROOT)}: link to {target} leads nowhere"


def help_options(binary, verb):
    """Long options that the verb's --help names; None if there is no such verb."""
    shown = subprocess.run([binary, verb, "--help"], capture_output=True, text=True)
    return set(re.findall(r"--[a-z][a-z0-9-]*", shown.stdout)) if shown.returncode == 0 else None


def commands(path):
    """(verb, options) of every `farskip VERB ...` in the fenced blocks of a document, continued lines joined."""
    for block in re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", path.read_text(), flags=re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words and words[0].split("/")[-1] == "farskip" and len(words) > 1 and not words[1].startswith("-"):
                yield words[1], [w.split("=")[0] for w in words[2:] if w.startswith("--")]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--binary", default=ROOT / "build" / "farskip")
    binary = str(arguments.parse_args().binary)
    found = [line for path in documents() for line in dead_links(path)]

    top = subprocess.run([binary, "--help"], capture_output=True, text=True).stdout
    verbs = re.findall(r"^  ([a-z]+) ", top, flags=re.M)
    options = {verb: help_options(binary, verb) for verb in verbs}
    for path in documents():
        for verb, used in commands(path):
            if verb not in options:
                found.append(f"{path.relative_to(ROOT)}: farskip has no verb {verb}")
                continue
            found += [f"{path.relative_to(ROOT)}: farskip {verb} has no option {o}" for o in used if o not in options[verb]]
    manual = ROOT / "docs" / "cli.md"
    if manual.exists():
        text = manual.read_text()
        for verb in verbs:
            found += [f"docs/cli.md does not name {o} of farskip {verb}" for o in sorted(options[verb] or ())
                      if not re.search(re.escape(o) + r"(?![a-z0-9-])", text)]

    print("\n".join(found) or f"{len(documents())} documents and {len(verbs)} verbs agree")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
