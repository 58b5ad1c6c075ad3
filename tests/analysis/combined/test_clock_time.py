"""Clock times from names and metadata of recordings, and what is left empty instead of being guessed."""

import struct
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from level_model import write_wav

from birdnet_fs.analysis.combined.clock_time import ClockTime, name_time, recording_start, time_zone
from birdnet_fs.core.errors import UserError

ZURICH = ZoneInfo("Europe/Zurich")


def add_chunk(path, name, content):
    """Append a chunk to a WAV file and repair the size of RIFF."""
    content += b"\0" * (len(content) % 2)
    data = path.read_bytes() + name + struct.pack("<I", len(content)) + content
    path.write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])
    return path


def guano(path, *lines):
    return add_chunk(path, b"guan", "\n".join(("GUANO|Version: 1.0", *lines)).encode())


def audiomoth(path, text):
    comment = text.encode() + b"\0"
    comment += b"\0" * (len(comment) % 2)
    return add_chunk(path, b"LIST", b"INFOICMT" + struct.pack("<I", len(comment)) + comment)


@pytest.mark.parametrize(
    ("stem", "wanted"),
    [
        ("20240501_053000", "2024-05-01T05:30:00"),  # AudioMoth
        ("20240501_053000T", "2024-05-01T05:30:00"),  # AudioMoth, triggered
        ("24F319055FDF2205_20240501_053000", "2024-05-01T05:30:00"),  # AudioMoth with its ID
        ("S4A01234_20240501_053000", "2024-05-01T05:30:00"),  # Song Meter 4
        ("SITE-1_0+1_20240501_053000", "2024-05-01T05:30:00"),  # Song Meter 3 with channels
        ("SM304472_0+1_20181219$100000", "2018-12-19T10:00:00"),  # Song Meter 3
        ("2MU01234_20240229_235959", "2024-02-29T23:59:59"),  # Song Meter Mini, leap day
        ("Myotis_20240501_053000", "2024-05-01T05:30:00"),  # Echo Meter Touch
        ("20230401_20240501_053000", "2024-05-01T05:30:00"),  # a date of the deployment before it
        ("20240501T053000Z", "2024-05-01T05:30:00+00:00"),
        ("20240501T053000", "2024-05-01T05:30:00"),
        ("20240501T053000+1000_REC", "2024-05-01T05:30:00+10:00"),  # Frontier Labs
        ("20240501T053000-0330_site_[-27.1+153.2]", "2024-05-01T05:30:00-03:30"),
        ("2024-05-01T05:30:00+02:00", "2024-05-01T05:30:00+02:00"),
        ("2024-05-01T05-30-00", "2024-05-01T05:30:00"),
        ("2024-05-01_05-30-00", "2024-05-01T05:30:00"),
        ("20240501053000", "2024-05-01T05:30:00"),
    ],
)
def test_time_of_a_name(stem, wanted):
    assert name_time(stem).start.isoformat() == wanted


@pytest.mark.parametrize(
    ("stem", "words"),
    [
        ("recording", "holds no date and time"),
        ("20240501", "holds no date and time"),
        ("5CC8F1B4", "holds no date and time"),  # seconds since 1970 of old AudioMoths, or the hash of something
        ("01052024_053000", "does not begin with the year"),
        ("05-01-2024_05-30-00", "does not begin with the year"),
        ("240501_053000", "does not begin with the year"),
        ("20241301_053000", "no such date"),
        ("20230229_053000", "no such date"),
        ("20240501_253000", "no such date"),
        ("20240501_053000_20240501_063000", "more than one time"),
        ("20240501_053000_001", "goes on with '_001'"),
        ("20240501_053000-0200", "goes on with '-0200'"),  # an offset, or a number
        ("20240501_053000_3.0s-6.0s", "goes on with"),
        ("20240501T053000+1510", "no offset"),
    ],
)
def test_name_that_can_be_read_in_two_ways_has_no_time(stem, words):
    found = name_time(stem)
    assert found.start is None and words in found.problem


def test_time_zone_makes_local_times_absolute_across_a_change_of_the_clocks(tmp_path):
    path = tmp_path / "20241027_013000.wav"  # summer time ends at 3:00
    clock = recording_start(path, ZURICH)
    assert clock.start.isoformat() == "2024-10-27T01:30:00+02:00"
    assert clock.at(3600).isoformat() == "2024-10-27T02:30:00+02:00"
    assert clock.at(7200).isoformat() == "2024-10-27T02:30:00+01:00"
    assert recording_start(path).at(7200).isoformat() == "2024-10-27T03:30:00"
    for name in ("20241027_023000.wav", "20240331_023000.wav"):  # twice, never
        found = recording_start(tmp_path / name, ZURICH)
        assert found.start is None and "twice or never" in found.problem
        assert recording_start(tmp_path / name, time_zone("+01:00")).start is not None


def test_recorder_zone_is_that_of_the_clock_and_the_zone_that_of_the_times(tmp_path):
    path = tmp_path / "20240501_053000.wav"
    assert recording_start(path, ZURICH, UTC).start.isoformat() == "2024-05-01T07:30:00+02:00"
    assert recording_start(tmp_path / "20240501T053000Z.wav", ZURICH).start.isoformat() == "2024-05-01T07:30:00+02:00"


def test_metadata_give_time_and_zone(tmp_path):
    path = guano(write_wav(tmp_path / "bat.wav", 0.1), "Make: X", "Timestamp: 2024-05-01T22:30:00.500-07:00")
    assert recording_start(path).start.isoformat() == "2024-05-01T22:30:00.500000-07:00"
    path = guano(write_wav(tmp_path / "S4A_20240501_223000.wav", 0.1), "Timestamp: 2024-05-01 22:30:00-07:00")
    assert recording_start(path).start.isoformat() == "2024-05-01T22:30:00-07:00"
    text = "Recorded at 05:30:00 01/05/2024 (UTC+2) by AudioMoth 24F319055FDF2205 at medium gain"
    path = audiomoth(write_wav(tmp_path / "20240501_053000.WAV", 0.1), text)
    assert recording_start(path).start == datetime(2024, 5, 1, 3, 30, tzinfo=UTC)
    assert recording_start(path).start.utcoffset() == timedelta(hours=2)
    path = audiomoth(write_wav(tmp_path / "x.wav", 0.1), text.replace("UTC+2", "UTC"))
    assert recording_start(path).start.isoformat() == "2024-05-01T05:30:00+00:00"


def test_name_that_contradicts_metadata_has_no_time(tmp_path):
    path = guano(write_wav(tmp_path / "20240501_223000.wav", 0.1), "Timestamp: 2024-05-01T23:30:00-07:00")
    found = recording_start(path)
    assert found.start is None and "contradict each other" in found.problem
    path = guano(write_wav(tmp_path / "20240501_223001.wav", 0.1), "Timestamp: yesterday")
    assert "'yesterday' of its GUANO metadata is not ISO 8601" in recording_start(path).problem


@pytest.mark.parametrize("flag", ["time_axis_unreliable", "joined=2"])
def test_recording_whose_seconds_are_not_those_of_the_clock_has_no_time(tmp_path, flag):
    path = tmp_path / "20240501_053000.wav"
    assert recording_start(path, ZURICH, flags=("silent",)).start is not None
    assert "audio is missing within it" in recording_start(path, ZURICH, flags=("silent", flag)).problem


def test_damaged_metadata_are_no_metadata(tmp_path):
    path = guano(write_wav(tmp_path / "20240501_223000.wav", 0.1), "Timestamp: 2024-05-01T23:30:00-07:00")
    whole = path.read_bytes()
    for n in (0, 3, 11, 20, 40):
        path.write_bytes(whole[:n])
        assert recording_start(path).start.isoformat() == "2024-05-01T22:30:00"
    assert recording_start(tmp_path / "gone" / "20240501_223000.wav").start is not None


def test_time_zones():
    assert time_zone("UTC") is UTC and time_zone("z") is UTC and time_zone("") is None
    assert time_zone("+0530") == time_zone("UTC+5:30") and time_zone("Europe/Zurich") == ZURICH
    for name, words in (
        ("Europe/Zürich", "Did you mean 'Europe/Zurich'"),
        ("+25:00", "at most 14"),
        ("CEST", "must be"),
    ):
        with pytest.raises(UserError, match=words):
            time_zone(name)


def test_unknown_start_gives_no_times():
    assert ClockTime(None, "x").at(3.0) is None
