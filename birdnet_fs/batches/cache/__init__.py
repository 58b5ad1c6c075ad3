"""Decoded clips and features on disk, shared by all trainings that read the same recordings (`data.cache`).

    store      one file of arrays: written once, mapped into memory, checked by checksums
    folder     the stores of a cache folder: found, written by one process at a time, limited in size, removed
    hashes     content hashes of recordings, computed again only when a file may have changed
    versions   what the values depend on besides recordings and settings: code, libraries, processor
    waveforms  the waveforms of clips from the cache, equal to decoded ones to the last bit
    features   the features of clips that are the same in every epoch

A cache holds nothing that cannot be computed again, and may be deleted at any time.
"""
