"""Random streams share no numbers, and everything random in the package comes from one of them."""

import ast
import doctest
import itertools
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from birdnet_fs.core import random_streams
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.random_streams import Stream, generator, integer_seed

PACKAGE = Path(random_streams.__file__).parents[1]
SEEDS = (0, 1, 2, 7, 2**32 - 1, 2**32, 2**64 - 1)
KEYS = (0, 1, 2, 2**32)

# files with random numbers of their own, and why they have no stream
EXCEPTIONS = {
    "data/synthetic/aviary.py": "synthetic recordings are bit-identical in every version; documents depend on them",
    "data/synthetic/noise.py": "as the aviary: reports of false alarms on noise stay comparable",
    "export/parity/inputs.py": "deployed files carry this noise and the outputs for it",
    "export/runtimes/time_model.py": "runs in other environments without this package; only times are read",
    "export/onnx/convert.py": "an input to trace a network with; its values are not used",
}
# a file that draws the same episodes as another, to refuse them before work begins
SAME_DRAWS = {"training/episodic/items.py": "training/episodic/evaluation.py"}
SOURCES = {"default_rng", "SeedSequence", "RandomState", "PCG64", "PCG64DXSM", "Philox", "SFC64", "MT19937"}
SOURCES |= {"manual_seed", "manual_seed_all", "set_random_seed", "seed"}


def numbers(rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(rng.integers(0, 2**64, 2, dtype=np.uint64).tolist())


def test_generator_differs_between_seeds_streams_and_keys() -> None:
    """Over all streams, seeds and up to three keys, zeros and numbers of two words among them; and NumPy's own."""
    found: dict[tuple[int, ...], tuple] = {}
    for stream, seed in itertools.product(Stream, SEEDS):
        for keys in itertools.chain(*(itertools.product(KEYS, repeat=n) for n in range(4))):
            one = (stream, seed, *keys)
            first = found.setdefault(numbers(generator(seed, stream, *keys)), one)
            assert first == one
    assert len(found) == len(Stream) * len(SEEDS) * sum(len(KEYS) ** n for n in range(4))
    plain = [*range(50), *(one for n in (2, 3) for one in itertools.product(range(22), repeat=n))]
    plain += [[s, zlib.crc32(kind), i] for s in range(8) for kind in (b"clip", b"soundscape") for i in range(8)]
    assert not found.keys() & {numbers(np.random.default_rng(seed)) for seed in plain}


def test_generator_distinguishes_trailing_zeros() -> None:
    """What NumPy does with the seeds that the package used before: limit, splits, order of epoch 0 and episodes."""
    before = [np.random.default_rng(seed) for seed in (7, (7, 0), (7, 0, 0))]
    assert len({numbers(rng) for rng in before}) == 1
    now = [generator(7, Stream.LIMIT), generator(7, Stream.SPLIT), generator(7, Stream.CLASSES)]
    now += [generator(7, Stream.ORDER, 0), generator(7, Stream.TRAINING_EPISODES, 0)]
    now += [generator(7, Stream.LIMIT, 0), generator(7, Stream.LIMIT, 0, 0)]
    assert len({numbers(rng) for rng in now}) == len(now)


def test_integer_seed_differs_for_small_seeds() -> None:
    arguments = list(itertools.product(range(20), Stream, range(5)))
    assert len({integer_seed(*one) for one in arguments}) == len(arguments)
    assert all(0 <= integer_seed(*one) < 2**32 for one in arguments)


def test_generator_is_seeded_with_the_documented_words() -> None:
    words = [42, 0, int(Stream.AUGMENTATION), 3, 3, 0, 5, 1]
    sequence = np.random.SeedSequence(words)
    assert numbers(generator(42, Stream.AUGMENTATION, 3, 2**32 + 5)) == numbers(np.random.default_rng(sequence))
    assert integer_seed(42, Stream.AUGMENTATION, 3, 2**32 + 5) == sequence.generate_state(1)[0]
    assert numbers(generator(np.int64(42), Stream.AUGMENTATION, np.int64(3), 2**32 + 5)) == numbers(
        np.random.default_rng(sequence)
    )


@pytest.mark.parametrize("wrong", [-1, 2**64, 1.0, "1", None])
def test_generator_refuses_seeds_out_of_range(wrong: object) -> None:
    with pytest.raises(UserError, match=r"seed must be a whole number in 0\.\.18446744073709551615\. Received"):
        generator(wrong, Stream.ORDER, 0)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="A key of the random stream ORDER must be a whole number"):
        integer_seed(0, Stream.ORDER, wrong)  # type: ignore[arg-type]


def test_stream_numbers_are_distinct_words() -> None:
    numbered = [member.value for member in Stream.__members__.values()]
    assert len(set(numbered)) == len(numbered) and all(0 < number < 2**32 for number in numbered)


def test_docstring_examples_run() -> None:
    assert doctest.testmod(random_streams).failed == 0


def own_sources(tree: ast.AST) -> list[str]:
    """Calls that start or draw from a generator which is no stream."""
    modules = {a.asname or a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        names = ast.unparse(node.func).split(".")
        of_module = names[-2:-1] == ["random"] and (names[0] in {"np", "numpy"} or "random" in modules)
        of_module = of_module and names[-1].replace("_", "") not in {"getstate", "setstate"}  # nothing is drawn
        from_stream = bool(node.args) and ast.unparse(node.args[0]).startswith("integer_seed(")
        if (names[-1] in SOURCES or of_module) and not from_stream:
            found.append(ast.unparse(node))
        found += [
            ast.unparse(node)
            for keyword in node.keywords
            if keyword.arg == "random_state" and "integer_seed" not in ast.unparse(keyword.value)
        ]
    return found


@pytest.mark.parametrize(
    ("line", "n"),
    [
        ("rng = np.random.default_rng(seed)", 1),
        ("rng = np.random.default_rng((seed, epoch))", 1),
        ("x = np.random.normal(0, 1)", 1),
        ("import random\nx = random.random()", 1),
        ("import random\nrandom.seed(seed)", 1),
        ("torch.manual_seed(0)", 1),
        ("split = KFold(5, random_state=seed)", 1),
        ("torch.manual_seed(integer_seed(seed, Stream.TORCH))", 0),
        ("split = KFold(5, random_state=integer_seed(seed, Stream.FOLDS))", 0),
        ("rng = generator(seed, Stream.ORDER, 0)\nrng.random()", 0),
    ],
)
def test_private_generators_are_found(line: str, n: int) -> None:
    assert len(own_sources(ast.parse(line))) == n


def test_package_draws_random_numbers_from_streams_only() -> None:
    found = defaultdict(list)
    for file in sorted(PACKAGE.rglob("*.py")):
        if file.name != "random_streams.py" and (calls := own_sources(ast.parse(file.read_text(encoding="utf-8")))):
            found[file.relative_to(PACKAGE).as_posix()] = calls
    assert found.keys() == EXCEPTIONS.keys(), {name: calls for name, calls in found.items() if name not in EXCEPTIONS}
    assert {name: len(calls) for name, calls in found.items()} == dict.fromkeys(EXCEPTIONS, 1)


def test_every_stream_has_one_user() -> None:
    """Defaults of arguments do not count: who calls names the stream."""
    users = defaultdict(set)
    for file in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        defaults = {
            id(node)
            for arguments in ast.walk(tree)
            if isinstance(arguments, ast.arguments)
            for default in (*arguments.defaults, *filter(None, arguments.kw_defaults))
            for node in ast.walk(default)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "Stream" and id(node) not in defaults:
                name = file.relative_to(PACKAGE).as_posix()
                users[node.attr].add(SAME_DRAWS.get(name, name))
    assert users.keys() == Stream.__members__.keys()
    assert all(len(files) == 1 for files in users.values()), users
