"""Layouts of labels: one small file each, all giving `Row`s; the table of layouts is `LAYOUTS`.

A layout module has `detect(source) -> bool` and `read(source) -> Iterator[Row]`. A row is what the table says,
unchecked; manifest.py finds the audio and refuses what is wrong. Detection goes in the order of the table.
"""

from types import ModuleType

from birdnet_fs.data.label_formats import (
    animal_spot,
    audacity,
    birdclef,
    dcase,
    folders,
    manifest_csv,
    plain_csv,
    raven,
)

LAYOUTS: dict[str, ModuleType] = {
    "manifest": manifest_csv,  # what write_manifest writes
    "birdclef": birdclef,  # train.csv with primary_label, audio in train_audio/
    "dcase": dcase,  # few-shot CSVs: Audiofilename, Starttime, Endtime, POS/NEG/UNK
    "csv": plain_csv,  # any other CSV with a path column
    "raven": raven,  # folder of Raven selection tables
    "audacity": audacity,  # folder of Audacity label tracks
    "animal_spot": animal_spot,  # LABEL-INFO_ID_YEAR_TAPE_STARTms_ENDms.wav
    "folders": folders,  # one folder per class
}
FILE_LAYOUTS = ("animal_spot", "folders")  # labels are names of files and folders; no table is read
OWN_LABELS = ("manifest", "dcase", "audacity", *FILE_LAYOUTS)  # no column for labels can be chosen
EVENT_LAYOUTS = ("raven", "audacity", "dcase")  # rows are timed events in recordings that are annotated throughout
