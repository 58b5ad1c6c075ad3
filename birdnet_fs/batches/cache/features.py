"""Features of clips that are the same in every epoch: of the middle segment, or of the windows that are scored.

They are stored in the same folder as the waveforms they are computed from, under a key of the waveform (waveforms.py),
every setting of the front-end, how the clip is cut, and what computes them (versions.py).
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence

import numpy as np

from birdnet_fs.batches.augment.crop import middle_segment
from birdnet_fs.batches.cache.folder import Jobs, Made, Stored
from birdnet_fs.batches.cache.versions import frontend_version
from birdnet_fs.batches.cache.waveforms import CachedWaveforms
from birdnet_fs.core.settings import to_dict
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.data.windows import WindowRule
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.schema import FrontEnd


class ClipFeatures(Sequence[np.ndarray]):
    """Sequence of the features of clips, float32 [n_windows, n_frames, n_mels] each; not to be written to.

    Args:
        waveforms: The clips. Features are stored where the waveforms are, or computed at every access.
        spec: The front-end.
        rule: Rule by which clips are cut into windows. Default: None, one window from the middle of the clip
            (`augmentation.crop=center`).
    """

    def __init__(self, waveforms: Waveforms, spec: FrontEnd, rule: WindowRule | None = None) -> None:
        self._waveforms, self._spec, self._rule = waveforms, spec, rule
        self._stored: list[Stored | None] = [None] * len(waveforms)
        if not isinstance(waveforms, CachedWaveforms):
            return
        settings = json.dumps([to_dict(dataclasses.replace(spec, preset="")), frontend_version()], sort_keys=True)
        kind = f"features-{hashlib.sha256(settings.encode()).hexdigest()[:16]}"
        cut = "center" if rule is None else [rule.n_samples, rule.hop, rule.sample_rate_hz]
        text = json.dumps([settings, cut])
        keys = [key and hashlib.sha256(f"{key} {text}".encode()).hexdigest() for key in waveforms.keys]
        places = {key: i for i, key in enumerate(keys) if key}
        found = waveforms.cache.find(kind, places)
        jobs: Jobs = {key: self._job(i) for key, i in places.items() if key not in found}
        if jobs:
            found |= waveforms.cache.add(kind, jobs, "computing features for the cache")
        self._stored = [self._checked(found.get(key)) for key in keys]

    def __len__(self) -> int:
        return len(self._waveforms)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]  # no slices
        """The features of one clip, float32 [n_windows, n_frames, n_mels]."""
        stored = self._stored[index]
        found = stored.load() if stored is not None else None
        if found is None:
            self._stored[index] = None
            return self._computed(index)
        return found

    def _computed(self, index: int) -> np.ndarray:
        waveform = self._waveforms[index]
        windows = middle_segment(waveform, self._spec)[None] if self._rule is None else self._rule.cut(waveform)
        return log_mel(windows, self._spec)

    def _job(self, index: int) -> Callable[[], Made]:
        return lambda: Made(self._computed(index))

    def _checked(self, stored: Stored | None) -> Stored | None:
        """None for an entry of another shape than the front-end gives."""
        return stored if stored is not None and stored.entry.shape[1:] == self._spec.shape else None
