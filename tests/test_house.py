"""The house itself: which room may import which, what is loaded when, what docstrings refer to."""

import ast
import glob
import os
import re
import subprocess
import sys
import tokenize

import pytest
from conftest import REPO
from test_docs import anchors

# From the cellar up: a room imports rooms below it alone.
FLOORS = [
    "runtime",
    "lora",
    "method",
    "scoring",
    "data",
    "upstream",
    "corpora",
    "adapters",
    "criterions",
    "tasks",
    "models",
    "finetuned",
    "decoding",
    "inference",
    "report",
    "cli",
]
PACKAGE = os.path.join(REPO, "varan_fairseq")
SOURCES = sorted(glob.glob(os.path.join(PACKAGE, "**", "*.py"), recursive=True))
SCRIPTS = [
    path
    for folder in ("benchmarks", "docs", "examples", "manifests", "tests")
    for path in sorted(glob.glob(os.path.join(REPO, folder, "**", "*.py"), recursive=True))
]


def relative(path):
    return os.path.relpath(path, REPO)


def tree(path):
    with open(path, encoding="utf-8") as file:
        return ast.parse(file.read())


def imported(path):
    """Modules of the package that a file of it imports at any time, but for type checkers."""
    package = relative(path)[: -len(".py")].split(os.sep)[:-1]
    source = tree(path)
    checkers = [
        child
        for node in ast.walk(source)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for child in ast.walk(node)
    ]
    for node in ast.walk(source):
        if isinstance(node, ast.ImportFrom) and node.level and node not in checkers:
            base = package[: len(package) - node.level + 1]
            if node.module:
                yield base + node.module.split(".")
            else:
                yield from (base + [name.name] for name in node.names)


def test_every_room_is_on_a_floor():
    rooms = {relative(path).split(os.sep)[1] for path in SOURCES}
    files = {"__init__.py", "__main__.py"}
    assert {room.replace(".py", "") for room in rooms - files} == set(FLOORS)


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_imports_go_downwards(path):
    room = relative(path).split(os.sep)[1].replace(".py", "")
    if room not in FLOORS:  # the front door
        return
    for module in imported(path):
        if len(module) > 1 and module[1] in FLOORS:
            assert FLOORS.index(module[1]) <= FLOORS.index(room), ".".join(module)


def test_no_circle_within_a_room():
    """A file is imported after all that it imports."""
    of = {}
    for path in SOURCES:
        name = relative(path)[: -len(".py")].replace(os.sep, ".")
        of[name] = {".".join(module) for module in imported(path)}
    left = {name: {other for other in uses if other in of} for name, uses in of.items()}
    while left:
        ready = [name for name, uses in left.items() if not uses & set(left)]
        assert ready, sorted(left)
        for name in ready:
            del left[name]


def test_the_method_needs_neither_fairseq_nor_the_rest():
    for path in glob.glob(os.path.join(PACKAGE, "method", "**", "*.py"), recursive=True):
        assert all(module[1] == "method" for module in imported(path)), path
        names = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Import)]
        assert not any("fairseq" in alias.name for node in names for alias in node.names)


def test_no_file_is_long():
    for path in SOURCES:
        with open(path, encoding="utf-8") as file:
            assert sum(1 for _ in file) <= 300, path


def test_sys_path_is_changed_in_one_place():
    places = set()
    for path in SOURCES + SCRIPTS:
        with open(path, encoding="utf-8") as file:
            if re.search(r"sys\.path(\.(append|insert)|\[[^\]]*\] =| \+?=)", file.read()):
                places.add(relative(path))
    # preloaded.py stands in for Python itself, which puts a script's folder there
    assert places == {"docs/tables.py", "tests/preloaded.py"}


HEAVY = ("torch", "fairseq", "numpy", "hydra")


def loaded(*arguments):
    """Which heavy libraries a Python program has loaded when it ends."""
    script = (
        "import runpy, sys\n"
        "try:\n"
        "    sys.argv = sys.argv[1:]\n"
        "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code, stop.code\n"
        f"print('loaded', *(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": os.path.dirname(arguments[0])},  # as of a script
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.strip().splitlines()[-1].split()[1:]


def test_importing_the_package_loads_nothing(tmp_path):
    (tmp_path / "import.py").write_text("import varan_fairseq, varan_fairseq.cli\n")
    assert loaded(str(tmp_path / "import.py")) == []


TOOLS = [path for path in SOURCES if os.sep + "cli" + os.sep in path and "__init__" not in path]
HELPFUL = [
    path
    for path in SCRIPTS
    if os.path.relpath(path, REPO).startswith(("manifests", "examples"))
    and any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree(path).body)
    # which have no options, or hydra's
    and not path.endswith(("readings.py", "write.py", "search.py"))
]


@pytest.mark.parametrize("path", TOOLS + HELPFUL, ids=relative)
def test_help_is_light(path, tmp_path):
    """Whoever asks for help does not wait for torch."""
    if path in TOOLS:
        module = relative(path)[: -len(".py")].replace(os.sep, ".")
        script = tmp_path / "tool.py"
        script.write_text(f"import sys\nfrom {module} import main\nsys.exit(main(['--help']))\n")
        assert loaded(str(script)) == []
    else:
        assert not set(loaded(path, "--help")) & {"torch", "fairseq", "hydra"}


# What docstrings and comments refer to


def texts(path):
    """Docstrings and comments of a file, each as one line."""
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(
            node
        ):
            yield " ".join(ast.get_docstring(node).split())
    with open(path, "rb") as file:
        comments = [
            t.string for t in tokenize.tokenize(file.readline) if t.type == tokenize.COMMENT
        ]
    yield " ".join(" ".join(comments).replace("#", "").split())


def read(*parts):
    with open(os.path.join(REPO, *parts), encoding="utf-8") as file:
        return file.read()


def options():
    """Every option of fairseq's configuration and of ours, as section.name."""
    from fairseq.criterions import CRITERION_DATACLASS_REGISTRY
    from fairseq.dataclass.configs import FairseqConfig
    from fairseq.models import MODEL_DATACLASS_REGISTRY
    from fairseq.tasks import TASK_DATACLASS_REGISTRY

    import varan_fairseq.models  # noqa: F401  (registers all)

    registries = {
        "model": MODEL_DATACLASS_REGISTRY,
        "criterion": CRITERION_DATACLASS_REGISTRY,
        "task": TASK_DATACLASS_REGISTRY,
    }
    known = {f"{section}._name" for section in (*registries, "optimizer", "lr_scheduler")}
    for section, registry in registries.items():
        known |= {
            f"{section}.{key}" for one in registry.values() for key in one.__dataclass_fields__
        }
    whole = FairseqConfig()
    for section in FairseqConfig.__dataclass_fields__:
        part = getattr(whole, section)  # an instance, or its class
        fields = getattr(part, "__dataclass_fields__", {})
        known |= {f"{section}.{key}" for key in fields}
    return known


SECTIONS = "model|criterion|task|dataset|optimization|checkpoint|common|distributed_training"


def test_what_docstrings_refer_to_exists():
    known, headings = options(), anchors(read("docs", "method.md"))
    wrong = []
    for path in SOURCES + SCRIPTS:
        folders = [REPO, PACKAGE, os.path.dirname(path), os.path.join(REPO, "docs")]
        folders += [os.path.join(PACKAGE, "method"), os.path.join(REPO, "tests", "faults")]
        for text in texts(path):
            for heading in re.findall(r'method\.md, "([^"]+)"', text):
                anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
                if anchor not in headings:
                    wrong.append((relative(path), f'method.md, "{heading}"'))
            for name in re.findall(r"`([\w./-]+\.(?:py|md|yaml|sh))`", text):
                if not any(os.path.exists(os.path.join(folder, name)) for folder in folders):
                    wrong.append((relative(path), name))
            for option in re.findall(rf"\b((?:{SECTIONS})\.[a-z_]\w+)=", text):
                if option not in known:
                    wrong.append((relative(path), option))
    assert not wrong, "\n".join(map(str, wrong))
