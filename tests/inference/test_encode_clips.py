"""Kept embeddings of clips: read again without audio, renewed when anything changes, never wrong when damaged."""

import encoder_runs
import foreign_encoders
import numpy as np
import pytest
from installed import need

from birdnet_fs import schema
from birdnet_fs.audio.read import read_audio
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import Clip
from birdnet_fs.inference import encode_clips as module
from birdnet_fs.inference.encode_clips import encode_clips, kept_folder
from birdnet_fs.inference.encoder_features import features_of_settings

need("onnxruntime")

ATOL = 1e-5  # float32 sums of 100 samples and 32 products of size 1, with a margin of 10


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    monkeypatch.setenv("BIRDNET_FS_CACHE", str(tmp_path / "cache"))
    file, card = encoder_runs.write_encoder(tmp_path / "encoder")
    root = encoder_runs.write_recordings(tmp_path / "recordings", 2)
    features = features_of_settings(schema.Model(encoder=str(file), encoder_card=str(card)))
    return features, sorted(root.rglob("*.wav")), encoder_runs.broken(root)


def windows_of(path, onset_s=0.0, end_s=None):
    """Windows at every half, and a rest of half a window or more; by hand."""
    waveform = read_audio(path, sample_rate_hz=encoder_runs.RATE_HZ).waveform
    waveform = waveform[round(onset_s * 16_000) : None if end_s is None else round(end_s * 16_000)]
    n, hop = encoder_runs.N_SAMPLES, encoder_runs.N_SAMPLES // 2
    return np.stack([waveform[i : i + n] for i in range(0, len(waveform) - n + 1, hop)])


def test_embeddings_are_those_of_the_windows(recordings):
    features, paths, broken = recordings
    clips = [Clip(paths[0]), Clip(broken), Clip(paths[1], 0.1, 0.5)]
    found = encode_clips(features, clips)
    assert [clip.path for clip in found.clips] == [paths[0], paths[1]]
    expected = [windows_of(paths[0]), windows_of(paths[1], 0.1, 0.5)]
    assert found.n_windows.tolist() == [len(each) for each in expected] == [6, 3]
    assert found.clip_of_window.tolist() == [0] * 6 + [1] * 3
    wanted = foreign_encoders.embedding(np.concatenate(expected), encoder_runs.WIDTH)
    np.testing.assert_allclose(found.features, wanted, atol=ATOL)
    assert [row.status for row in found.ledger.rows] == ["ok", "quarantined", "ok"]


def test_kept_embeddings_are_read_without_audio_or_encoder(recordings, monkeypatch):
    features, paths, broken = recordings
    clips = [Clip(path) for path in (*paths, broken)] + [Clip(paths[0], 0.5, 9.0)]
    first = encode_clips(features, clips)
    monkeypatch.setattr(type(features), "features", None)  # calling it fails
    reads = []
    monkeypatch.setattr(module, "read_clip", lambda clip, rate: reads.append(clip) or real(clip, rate))
    from birdnet_fs.data.waveforms import read_clip as real

    again = encode_clips(features, clips)
    np.testing.assert_array_equal(again.features, first.features)
    assert again.clips == first.clips and again.ledger.rows == first.ledger.rows
    assert [clip.path for clip in reads] == [broken]  # what could not be read is tried again
    assert again.clips[-1].offset_s == pytest.approx(0.7)


def test_a_changed_file_is_embedded_again(recordings):
    features, paths, _ = recordings
    first = encode_clips(features, [Clip(paths[0])])
    paths[0].write_bytes(paths[3].read_bytes())
    again = encode_clips(features, [Clip(paths[0])])
    np.testing.assert_array_equal(again.features, encode_clips(features, [Clip(paths[3])]).features)
    assert not np.array_equal(again.features, first.features)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK" + bytes(100)])
def test_damaged_kept_files_are_replaced(recordings, content):
    features, paths, _ = recordings
    first = encode_clips(features, [Clip(paths[0])])
    [file] = kept_folder().rglob("*.npz")
    file.write_bytes(content)
    np.testing.assert_array_equal(encode_clips(features, [Clip(paths[0])]).features, first.features)
    assert file.stat().st_size > 200


def test_a_folder_that_cannot_be_written_to_is_no_error(recordings, monkeypatch, tmp_path):
    features, paths, _ = recordings
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("BIRDNET_FS_CACHE", str(tmp_path / "file"))
    assert len(encode_clips(features, [Clip(paths[0])]).features) == 6


def test_no_readable_clip_is_refused_by_name(recordings):
    features, _, broken = recordings
    with pytest.raises(UserError, match=r"None of the 1 clips could be read; the first, .*broken\.wav"):
        encode_clips(features, [Clip(broken)])
