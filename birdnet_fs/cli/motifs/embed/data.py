"""The triplets that `motifs embed fit` and `motifs embed summary` read."""

from pathlib import Path
from typing import Any

from birdnet_fs.core.progress import say


def open_batches(table: Path, audio: Path, settings: Any) -> Any:
    """Open the triplets of a table; UserErrors of the table, the audio and the settings are passed on.

    Args:
        table: Table of triplets, or of mined recordings.
        audio: Folder of the cuts of `motifs extract-triplets`, or of the recordings.
        settings: `Tile2VecSettings`.

    Returns:
        `TripletBatches`.
    """
    from birdnet_fs.core.files import sha256
    from birdnet_fs.motifs.profile_table import read_profile_table
    from birdnet_fs.motifs.tile2vec.batches import TripletBatches
    from birdnet_fs.motifs.tile2vec.sources import Cuts, Slices
    from birdnet_fs.motifs.triplets import is_triplet_table

    spec = settings.frontend
    source: Cuts | Slices
    if is_triplet_table(table):
        source = Cuts(table, audio, spec.sample_rate_hz, spec.n_samples)
    else:
        rows = read_profile_table(table, profiles=True)
        source = Slices(rows, audio, spec.sample_rate_hz, spec.n_samples, sha256(table))
    if source.ledger.counts()["quarantined"]:
        say(source.ledger.summary())
    return TripletBatches(source, settings)
