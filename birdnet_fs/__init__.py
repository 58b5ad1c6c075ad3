"""Recordings of birds and other animals in, classifiers people can trust and ship out.

The rooms, in the order of the data; each imports only from rooms above its own
(tests/test_rooms.py reads the imports and fails otherwise):

    plumbing     errors for people, key=value settings, atomic files, progress
    schema       what can be chosen: frozen settings with unit, default and check
    recordings   files -> waveforms -> labeled segments; manifest, splits, the synthetic aviary
    frontend     waveform -> log-mel: one definition, three executions
    batches      segments -> augmented batches
    models       one family per file, `build("family/variant", ...)`
    training     batches + model -> run folder
    fewshot      a new species from a few clips: enrollment, accuracy on new classes, event scores
    scoring      run + recordings -> score table and annotation files
    reports      scores -> metrics.json and one self-contained page
    export       run -> TFLite with its proof of parity
    cli          one small file per verb
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")  # one backend per process; the exporter's process sets tensorflow

__version__ = "0.1.0"
