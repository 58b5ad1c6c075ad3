"""Front-ends and augmentation of bird songs, shared by several experiments."""

from dataclasses import replace

from birdnet_fs.schema import Augmentation, FrontEnd, Masks, Mixup, Noise

# bird songs: from 500 Hz, above most low-frequency noise; every segment has mean 0 and standard deviation 1
SONGS = FrontEnd(preset="songs", segment_s=4.0, n_mels=80, fmin_hz=500.0, normalize="z_score", normalize_eps=1e-6)

# the same with PCEN, which removes the stationary background and the level of a recording
SONGS_PCEN = replace(SONGS, preset="songs_pcen", compression="pcen", top_db=0.0)

EVERYTHING = Augmentation(
    crop="active",
    mixup=Mixup(0.5, alpha=1.0),
    noise=Noise(0.5),
    eq_db=6.0,
    freq_shift=2,
    time_masks=Masks(2),
    freq_masks=Masks(2),
)
