"""What the documentation names exists: pages and headings, files, tests, modules and what is in them."""

import ast
import functools
import re
from pathlib import Path

import pytest
from typer.main import get_command

from sparse_rt.cli.main import app
from sparse_rt.version import __version__

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "SECURITY.md", "examples/README.md")] + sorted(ROOT.glob("docs/**/*.md"))
#: What paths in the text are relative to.
ROOTS = [
    ROOT,
    *(ROOT / name for name in ("sparse_rt", "sparse_rt/plan", "sparse_rt/demo_data", "kernels/sparse_rt_kernels")),
]
#: Where a dotted name begins, and the folder that holds it. A room may be named without its package: `formats.check`.
PACKAGES = {
    "sparse_rt": ROOT,
    "sparse_rt_kernels": ROOT / "kernels",
    "benchmarks": ROOT,
    "tests": ROOT,
    **dict.fromkeys(("ascend", "feeds", "formats", "sparsity", "tuning", "verify"), ROOT / "sparse_rt"),
    "srt": ROOT,
}

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PATH = re.compile(r"(?<![\w/.-])((?:[\w-]+/)*[\w-]+\.(?:py|md|toml|json|jsonl|onnx|npz)|(?:[\w-]+/)+)(?:::(\w+))?")
DOTTED = re.compile(rf"(?<![\w./$*-])((?:{'|'.join(PACKAGES)})(?:\.(?!py\b)\w+)+)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
SPAN = re.compile(r"`([^`\n]+)`")
DOC_IN_CODE = re.compile(r"docs/[\w/-]+\.md")


def by_page(page):
    return str(page.relative_to(ROOT))


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(page.read_text()))
    return {text.strip().replace(" ", "-") for text in kept}


@functools.cache
def words(module):
    """The names in a module, or in every module of a package."""
    files = module.glob("**/*.py") if module.is_dir() else [module]
    return frozenset(word for file in files for word in re.findall(r"\w+", file.read_text()))


def spans(page):
    """What a page sets as code: spans in backticks, and commands of indented blocks."""
    text = page.read_text()
    return SPAN.findall(text) + re.findall(r"^    .*$", text, re.MULTILINE)


def missing_module(name):
    """Why a dotted name names nothing; None if its module is there and has such a name in it."""
    first, *rest = name.split(".")
    place = PACKAGES[first] / {"srt": "sparse_rt"}.get(first, first)
    place = place if place.is_dir() else place.with_suffix(".py")
    while rest:
        inner = place / rest[0]
        if inner.is_dir() or inner.with_suffix(".py").is_file():
            place = inner if inner.is_dir() else inner.with_suffix(".py")
            rest = rest[1:]
        else:
            break
    if not place.exists():
        return f"{name}: no {place}"
    return f"{name}: no {rest[0]} in {place.relative_to(ROOT)}" if rest and rest[0] not in words(place) else None


@pytest.mark.parametrize("page", PAGES, ids=by_page)
def test_every_link_leads_somewhere(page):
    broken = []
    for link in LINK.findall(page.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=by_page)
def test_every_file_and_test_exists(page):
    missing = []
    for span in SPAN.findall(page.read_text()):
        if not (match := PATH.fullmatch(span)):
            continue
        path, function = match.groups()
        found = next((root / path for root in (*ROOTS, page.parent) if (root / path).exists()), None)
        if found is None or (function and function not in words(found)):
            missing.append(span)
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=by_page)
def test_what_a_page_says_to_be_in_a_file_is_there(page):
    told = re.findall(r"`(\w+)` (?:of|in)\s+`([\w/]+\.py)`", page.read_text())
    missing = []
    for name, path in told:
        files = [root / path for root in ROOTS if (root / path).is_file()]
        if not any(name in words(file) for file in files):
            missing.append(f"{name} of {path}")
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=by_page)
def test_every_module_exists(page):
    names = {name for span in spans(page) for name in DOTTED.findall(span)}
    assert [why for why in map(missing_module, sorted(names)) if why] == []


def test_what_make_runs_exists():
    text = (ROOT / "Makefile").read_text()
    modules, files = re.findall(r"-m (tests[\w.]+)", text), re.findall(r"(tests/[\w/]+(?:\.py)?)", text)
    assert modules
    assert [why for why in map(missing_module, modules) if why] == []
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_every_page_that_the_source_names_exists():
    folders = ("sparse_rt", "kernels", "tests", "benchmarks", "examples")
    files = [file for folder in folders for file in (ROOT / folder).glob("**/*.py")]
    named = {(page, file) for file in files for page in DOC_IN_CODE.findall(file.read_text())}
    assert named
    assert [(page, by_page(file)) for page, file in sorted(named) if not (ROOT / page).is_file()] == []


@pytest.mark.parametrize("folder", ["examples", "benchmarks"])
def test_what_a_script_takes_from_a_room_is_there(folder):
    """Some need what is not installed for the tests, so that nothing imports them here."""
    trees = [ast.parse(file.read_text()) for file in sorted((ROOT / folder).glob("**/*.py"))]
    imports = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if (node.module or "").partition(".")[0] in PACKAGES]
    assert ours
    names = sorted({f"{node.module}.{alias.name}" for node in ours for alias in node.names})
    assert [why for why in map(missing_module, names) if why] == []


def test_every_page_can_be_reached_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md" or not page.is_file():
            continue
        reached.add(page)
        links = (link.partition("#")[0] for link in LINK.findall(page.read_text()))
        waiting += [(page.parent / link).resolve() for link in links if link and not re.match(r"[a-z]+:", link)]
    assert [by_page(page) for page in sorted(ROOT.glob("docs/**/*.md")) if page not in reached] == []


def test_the_changelog_begins_with_what_is_unreleased_and_then_this_version():
    titles = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert titles[0] == "Unreleased"
    assert re.fullmatch(rf"{re.escape(__version__)} - \d{{4}}-\d\d-\d\d", titles[1])


OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*\b")
COMMANDS = get_command(app).commands


def option_names(command):
    """The names of each of a command's options."""
    return [{*each.opts, *each.secondary_opts} for each in command.params if each.opts[0].startswith("-")]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_of_a_command_tells_its_options(command):
    written = set(OPTION.findall((ROOT / f"docs/commands/{command}.md").read_text()))
    assert [names for names in option_names(COMMANDS[command]) if not names & written] == []


def test_every_option_that_is_written_exists():
    exists = set().union(*(names for command in COMMANDS.values() for names in option_names(command)))
    pages = [ROOT / "README.md", *ROOT.glob("docs/commands/*.md")]
    lines = [line for page in pages for line in page.read_text().splitlines() if line.startswith("    sparse-rt ")]
    assert lines
    assert {option for line in lines for option in OPTION.findall(line.partition("#")[0])} - exists == set()


def test_every_command_has_a_page():
    assert set(COMMANDS) == {path.stem for path in ROOT.glob("docs/commands/*.md")}
