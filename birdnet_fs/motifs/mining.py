"""Motifs and discords of a matrix profile, and the matrix profile of a recording.

A motif is a pair of windows that are closest to each other, a discord the window that is farthest from its neighbor
(Yeh et al. 2016, "Matrix Profile I: all pairs similarity joins for time series", ICDM,
https://doi.org/10.1109/ICDM.2016.0179). Each comes with its pair, the neighbor of the window.
"""

from dataclasses import dataclass

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.motifs.features import FeatureSettings, FrameFeatures, frame_levels
from birdnet_fs.motifs.matrix_profile import MatrixProfile, ab_join, mean_distance, self_join

RADIUS = 2.0  # times the distance of a motif: windows up to there are of its group
SILENT = 1e-9  # level of a frame that 24 bits can no longer represent


@dataclass(frozen=True)
class Pair:
    """A window and its nearest neighbor.

    Attributes:
        first: First frame of the window.
        second: First frame of its neighbor.
        distance: Squared Euclidean distance between them.
    """

    first: int
    second: int
    distance: float


def motif(profile: MatrixProfile) -> Pair | None:
    """The window with the closest neighbor, the first of several; None where no window has a neighbor."""
    found = top_motifs(profile, 1)
    return found[0] if found else None


def discord(profile: MatrixProfile) -> Pair | None:
    """The window whose neighbor is farthest, the first of several; None where no window has a neighbor."""
    distances = np.where(profile.neighbors >= 0, profile.distances, -np.inf)
    place = int(distances.argmax()) if len(distances) else 0
    return _pair(profile, place) if len(distances) and profile.neighbors[place] >= 0 else None


def top_motifs(profile: MatrixProfile, n: int) -> list[Pair]:
    """The closest pairs of a self-join, none of whose windows overlaps a window of a closer pair.

    Args:
        profile: The profile.
        n: Number of pairs, 1 or more.

    Returns:
        Up to `n` pairs, the closest first; of equal ones the earlier first.

    Raises:
        UserError: The number is below 1.
    """
    if n < 1:
        raise UserError(f"The number of motifs must be 1 or more. Received: {n}")
    found: list[Pair] = []
    taken = np.zeros(len(profile), bool)  # windows that overlap one of those that were found
    for place in np.argsort(profile.distances, kind="stable"):
        if len(found) == n or profile.neighbors[place] < 0:
            break
        pair = _pair(profile, int(place))
        if taken[pair.first] or taken[pair.second]:
            continue
        found.append(pair)
        for start in (pair.first, pair.second):
            taken[max(0, start - profile.window + 1) : start + profile.window] = True
    return found


def motif_group(features: np.ndarray, pair: Pair, window: int, *, radius: float = RADIUS) -> list[int]:
    """All occurrences of a motif in its sequence: windows close to its first one, none of which overlap.

    Args:
        features: [n_frames, width], the sequence.
        pair: The motif.
        window: Frames of a window.
        radius: Largest Euclidean distance to the first window of the motif, times the distance of its pair, 0 or more.
            Default: RADIUS.

    Returns:
        First frames of the windows, the closest first, which is the first window of the motif itself.

    Raises:
        UserError: The radius is below 0, or as of `ab_join`.
    """
    if radius < 0:
        raise UserError(f"radius must be 0 or more. Received: {radius}")
    distances = ab_join(features, features[pair.first : pair.first + window], window).distances
    distances[pair.first] = -1.0
    found = list[int]()
    for place in np.argsort(distances, kind="stable"):
        if distances[place] > radius**2 * pair.distance:
            break
        if all(abs(int(place) - other) >= window for other in found):
            found.append(int(place))
    return found


@dataclass(frozen=True)
class MiningSettings:
    """Settings of the mining of recordings.

    Attributes:
        features: Kind of the features and their frames.
        window: Frames of a window, 2 or more. Default: 50, 5 s at 10 frames a second.
        louder_half: Whether only the louder half of the windows of a recording is compared. Default: False.
        max_distance: Largest squared distance of a motif, as a share of the mean one between windows of the recording;
            pairs that are farther are no motif. Default: 0, no limit.
    """

    features: FeatureSettings
    window: int = 50
    louder_half: bool = False
    max_distance: float = 0.0


@dataclass(frozen=True, eq=False)
class Mined:
    """Outcome of a waveform.

    Attributes:
        profile: Matrix profile.
        n_frames: Number of frames.
        mean_distance: Mean squared distance between two of its windows; 0 where there is no profile.
        reason: Reason for a missing motif; "" when there is one.
    """

    profile: MatrixProfile
    n_frames: int
    mean_distance: float
    reason: str


def mine(waveform: np.ndarray, features: FrameFeatures, settings: MiningSettings) -> Mined:
    """Matrix profile of a waveform. Windows that are digital silence throughout are not compared.

    Args:
        waveform: float32 [n_samples], at the rate of the features.
        features: The features.
        settings: Window, and which windows are compared.

    Returns:
        The outcome. A UserError of `self_join` is passed on.
    """
    x = features.compute(waveform)
    window, seconds = settings.window, settings.window / features.frames_per_s
    n_windows = len(x) - window + 1
    if n_windows < 1 or len(waveform) < seconds * features.sample_rate_hz:
        empty = MatrixProfile(np.zeros(0), np.zeros(0, np.int64), window)
        return Mined(empty, len(x), 0.0, f"it is shorter than a window of {seconds:g} s, so that it has no motif.")
    levels = np.convolve(frame_levels(waveform, features.hop, len(x)), np.ones(window), "valid")
    active = levels > window * SILENT
    if not active.any():
        nothing = MatrixProfile(np.full(n_windows, np.inf), np.full(n_windows, -1), window)
        return Mined(nothing, len(x), 0.0, "it is silent, so that it has no motif.")
    if settings.louder_half:
        active &= levels >= np.median(levels[active])
    profile, mean = self_join(x, window, active=active), mean_distance(x, window, active)
    closest = motif(profile)
    if closest is None:
        return Mined(profile, len(x), mean, f"it has no two windows of {seconds:g} s that can be compared.")
    reason = ""
    if settings.max_distance and closest.distance > settings.max_distance * mean:
        share = closest.distance / mean
        reason = f"its closest windows are {share:.2f} of the mean distance apart, above {settings.max_distance:g}."
    return Mined(profile, len(x), mean, reason)


def _pair(profile: MatrixProfile, place: int) -> Pair:
    return Pair(place, int(profile.neighbors[place]), float(profile.distances[place]))
