"""The pages in Debian's Chromium: they fit every screen, sort, filter and play, and axe-core finds nothing."""

from collections.abc import Iterator

import numpy as np
import pytest
from audio_files import chirps, write
from browser import Browser, in_browser, opened
from drawn_scores import HOSTILE

from birdnet_fs import schema
from birdnet_fs.data.score_table import ScoreRow, score_table
from birdnet_fs.reports.evaluate import write_evaluation

pytestmark = [pytest.mark.browser, in_browser]
CLASSES = (*HOSTILE[:2], "مرحبا", "🦉 owl", "a" * 200, *(f"species {i}" for i in range(5)))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with opened() as window:
        yield window


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of 60 segments of a recording that exists and of one that does not; the last class never occurs."""
    folder = tmp_path_factory.mktemp("page")
    write(folder / "a.wav", chirps(32_000, 60.0), 32_000)
    rng = np.random.default_rng(0)
    truth = rng.integers(0, len(CLASSES) - 1, 60)
    logits = rng.standard_normal((60, len(CLASSES)))
    logits[np.arange(60), truth] += 1
    names = [str(folder / ("a.wav" if i % 3 else "gone.wav")) for i in range(60)]
    rows = [ScoreRow(names[i], float(i % 55), 3.0, f"group {i}", (CLASSES[c],)) for i, c in enumerate(truth)]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    history = [{"epoch": e, "train_loss": 1 / e, "val_acc": 1 - 1 / e} for e in (1, 2, 3)]
    write_evaluation(
        folder, score_table(rows, scores, CLASSES), multi_label=False, title="<b>run</b>", history=history,
        experiment=schema.Experiment(name="run"),
    )  # fmt: skip
    return (folder / "report.html").as_uri()


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (768, False), (1280, True), (1920, False)])
def test_the_page_fits_the_screen_and_axe_finds_nothing(page: str, browser: Browser, width: int, dark: bool) -> None:
    browser.open(page, width=width, dark=dark)
    assert browser.run("const root = document.documentElement; return root.scrollWidth <= root.clientWidth")
    numbers = browser.run(
        "return [...document.querySelectorAll('table.sortable tbody tr')].flatMap(row => [...row.cells].slice(3))"
        ".map(cell => cell.getBoundingClientRect()).map(box => [box.left, box.right, box.height])"
    )
    assert len(numbers) == 7 * len(CLASSES) and all(
        left >= 0 and right <= width and h > 0 for left, right, h in numbers
    )
    paper = browser.run("return getComputedStyle(document.querySelector('section')).backgroundColor")
    assert (max(map(int, paper.strip("rgb()").split(","))) < 80) == dark
    assert browser.errors() == [] and browser.violations() == []


def test_a_click_on_a_column_sorts_and_undefined_values_stay_last(page: str, browser: Browser) -> None:
    browser.open(page)
    column = "return [...document.querySelectorAll('.sortable tbody tr')].map(row => row.cells[3].textContent)"
    head = "document.querySelector('.sortable').tHead.rows[0].cells[3]"
    click = f"{head}.querySelector('button').click();{column}"
    first, second = browser.run(click), browser.run(click)
    values = [float(text) for text in first[:-1]]
    assert first[-1] == second[-1] == "–" and values == sorted(values) and len(set(values)) > 3
    assert [float(text) for text in second[:-1]] == sorted(values, reverse=True)
    assert browser.run(f"return {head}.getAttribute('aria-sort')") == "descending"


def test_on_a_phone_a_list_of_the_columns_sorts(page: str, browser: Browser) -> None:
    browser.open(page, width=390)
    shown, counts = browser.run(
        "const choice = document.querySelector('.tools select'); choice.value = '1';"
        "choice.dispatchEvent(new Event('change'));"
        "const rows = [...document.querySelectorAll('.sortable tbody tr')];"
        "return [choice.offsetWidth > 0, rows.map(row => Number(row.cells[1].textContent))]"
    )
    assert shown and counts == sorted(counts) and counts[0] == 0 and len(set(counts)) > 2
    browser.open(page, width=1280)
    assert browser.run("return document.querySelector('.tools select').offsetWidth") == 0


def test_text_filters_the_classes(page: str, browser: Browser) -> None:
    browser.open(page)
    shown = browser.run(
        "const field = document.querySelector('.tools input'); field.value = 'SPECIES 1';"
        "field.dispatchEvent(new Event('input'));"
        "return [[...document.querySelectorAll('.sortable tbody tr')].filter(row => row.offsetHeight > 0).length,"
        "document.querySelector('.tools [role=status]').textContent]"
    )
    assert shown == [1, f"1 of {len(CLASSES)}"]


def test_mistakes_can_be_heard_one_at_a_time_and_missing_recordings_are_named(page: str, browser: Browser) -> None:
    browser.open(page)
    played = browser.run(
        "const sounds = [...document.querySelectorAll('audio')].slice(0, 2);"
        "const wait = sound => new Promise((ready, fail) => {"
        "  sound.ontimeupdate = () => sound.currentTime > 0 && ready();"
        "  sound.onerror = () => fail(sound.error.message); sound.muted = true; sound.play().catch(fail);"
        "});"
        "wait(sounds[0]).then(() => wait(sounds[1])).then("
        "  () => done([sounds.map(sound => sound.paused), sounds.map(sound => sound.duration)]),"
        "  error => done(String(error)))"
    )
    assert played[0] == [True, False] and all(abs(seconds - 3) < 0.15 for seconds in played[1])  # frames of MP3
    text = browser.run("return document.body.innerText")
    assert "No picture and no sound:" in text and "gone.wav" in text


def test_names_are_text_and_nothing_is_requested(page: str, browser: Browser) -> None:
    browser.open(page)
    assert browser.run("return document.querySelectorAll('script').length") == 1
    assert browser.run("return document.querySelector('h1').textContent") == "<b>run</b>"
    requests = browser.run("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in requests if not name.startswith("data:")] == []
    browser.run("const script = document.createElement('script'); script.textContent = 'window.ran = 1';"
                "document.body.append(script)")  # fmt: skip
    assert browser.run("return window.ran === undefined")
    assert any("Content Security Policy" in message for message in browser.errors())
