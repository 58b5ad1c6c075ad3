"""The page of a search: self-contained, a picture and a sound for each clip, names escaped, the window marked."""

import base64
import io
import re

import numpy as np
import soundfile
from html_page import check_page
from PIL import Image

from birdnet_fs.reports.pages.spectrograms import N_BANDS
from birdnet_fs.reports.search import write_search_page
from birdnet_fs.search.neighbors import FoundWindow

RATE_HZ = 48_000


def write(folder, seconds=5.0):
    folder.mkdir()
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    soundfile.write(folder / "1.wav", 0.5 * np.sin(2 * np.pi * 3000 * time_s), RATE_HZ)
    found = [
        FoundWindow("<b>/a.wav", 61.0, 62.0, 0.9, "call & co.wav", 2, 1),
        FoundWindow("gone.wav", 0.0, 1.0, float("nan"), "", 1, 2, "different"),
    ]
    write_search_page(
        folder / "page.html", title="<i>", found=found, clips=["1.wav", ""], folder=folder, table="next.csv"
    )
    return (folder / "page.html").read_text(encoding="utf-8")


def test_the_page_is_whole_and_loads_nothing(tmp_path):
    html = write(tmp_path / "out")
    check_page(html)
    assert not re.search(r"<b>/a|<i>[^<]*report", html)
    assert "&lt;b&gt;/a.wav" in html and "call &amp; co.wav" in html and "next.csv" in html
    assert "1:01.0 – 1:02.0" in html and "best of 2 windows" in html
    assert "could not be read" in html and "different" in html


def test_picture_and_sound_are_those_of_the_clip(tmp_path):
    html = write(tmp_path / "out")
    (picture,) = re.findall(r"image/png;base64,([^\"]+)", html)
    image = np.array(Image.open(io.BytesIO(base64.b64decode(picture))).convert("L"), float)
    assert image.shape == (N_BANDS, 1 + 5 * RATE_HZ // 512)
    loudest = image.mean(axis=1).argmax()
    assert np.median(image[loudest]) > 5 * np.median(image) and 0.3 < 1 - loudest / N_BANDS < 0.7
    (sound,) = re.findall(r"audio/flac;base64,([^\"]+)", html)
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sound)))
    clip, _ = soundfile.read(tmp_path / "out" / "1.wav")
    assert rate == RATE_HZ
    np.testing.assert_array_equal(samples, clip)


def test_the_window_is_marked_where_it_is_in_the_clip(tmp_path):
    html = write(tmp_path / "out")
    assert "left: 40.000%; right: 40.000%" in html  # 2 s margin, 1 s window, 2 s margin
