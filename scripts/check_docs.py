"""Holds the documentation against the tree and the program: every relative link in a *.md file leads somewhere, every verb
and option in a `farskip VERB ...` command of a fenced block exists, and the --help texts in docs/cli.md are the program's.

    .venv/bin/python scripts/check_docs.py [--write] [--binary build/farskip]      (--write: mends docs/cli.md)
"""
import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MANUAL = ROOT / "docs" / "cli.md"
HELP_BLOCK = re.compile(r"(<!-- help: ([a-z ]+) -->\n)```text\n.*?^```\n", re.M | re.S)
COMMON = "Running the model:"


def documents():
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"], cwd=ROOT,
                            capture_output=True, text=True, check=True)
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).exists()]


def dead_links(path):
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text):
        file = target.split("#")[0]
        if file and not re.match(r"[a-z]+:", target) and not (path.parent / file).exists():
            yield f"{path.relative_to(ROOT)}: link to {target} leads nowhere"


def help_text(binary, *verb):
    return subprocess.run([binary, *verb, "--help"], capture_output=True, text=True).stdout


def verbs(binary, *above):
    """All verbs; those of a verb that has some of its own in its place, as "bench train"."""
    for verb in re.findall(r"^  ([a-z]+) ", help_text(binary, *above).partition("ubcommands:")[2], flags=re.M):
        below = list(verbs(binary, *above, verb))
        yield from below or [" ".join([*above, verb])]


def shown_help(binary, verb):
    """What docs/cli.md shows of a verb; the options that all verbs share stand there once, as `common`."""
    parts = re.split(r"\n\s*\n", help_text(binary, *(verb.split() if verb != "common" else ["logits"])).strip("\n"))
    kept = [part for part in parts if part.strip().startswith(COMMON) == (verb == "common")]
    return "\n\n".join(kept)


def with_help(binary, text):
    """docs/cli.md with the program's own help in its marked blocks."""
    return HELP_BLOCK.sub(lambda m: f"{m[1]}```text\n{shown_help(binary, m[2])}\n```\n", text)


def commands(path):
    """(verb, options) of every `farskip VERB ...` line in the fenced blocks of a document, continued lines joined."""
    for block in re.findall(r"^```(?:sh|bash|console|text)?\n(.*?)^```", path.read_text(), flags=re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            found = re.match(r"\s*(?:\$ )?(?:\./)?(?:build/)?farskip ([a-z]+ .*)", line)
            words = shlex.split(found[1], comments=True) if found else []
            while words:  # `launch ... -- VERB ...` is two commands
                end = words.index("--") if "--" in words else len(words)
                verb = " ".join(words[:2]) if words[0] == "bench" else words[0]
                yield verb, [word.split("=")[0] for word in words[1:end] if word.startswith("--")]
                words = words[end + 1:]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--binary", default=ROOT / "build" / "farskip")
    arguments.add_argument("--write", action="store_true", help="put the program's --help texts into docs/cli.md")
    given = arguments.parse_args()
    binary = str(given.binary)
    found = [line for path in documents() for line in dead_links(path)]

    known = {verb: set(re.findall(r"--[a-z][a-z0-9-]*", help_text(binary, *verb.split()))) for verb in verbs(binary)}
    if MANUAL.exists():
        text = MANUAL.read_text()
        if given.write:
            MANUAL.write_text(with_help(binary, text))
        elif with_help(binary, text) != text:
            found.append("docs/cli.md: its --help texts are not the program's; run scripts/check_docs.py --write")
        shown = {verb for _, verb in HELP_BLOCK.findall(text)}
        found += [f"docs/cli.md does not show the verb {verb}" for verb in known if verb not in shown]
    for path in documents():
        for verb, used in commands(path):
            if verb not in known:
                found.append(f"{path.relative_to(ROOT)}: farskip has no verb {verb}")
            else:
                found += [f"{path.relative_to(ROOT)}: farskip {verb} has no option {o}" for o in used if o not in known[verb]]

    print("\n".join(found) or f"{len(documents())} documents and {len(known)} verbs agree")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
