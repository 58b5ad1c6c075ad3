"""Layouts of labels, one file per layout; `LAYOUTS` is the table of them.

A layout module has two functions: `matches(source) -> bool`, whether a data folder has this layout, and
`read(source) -> Iterator[LabelRow]`, its rows as they are written. manifest.py locates the audio and checks the rows.
With `data.layout=auto` the first layout of the table that matches is used.

To add a layout, write its module and add a row to `LAYOUTS` and its name to `layout` in schema/data.py. If it reads no
table, has no column for labels that can be chosen, or holds timed events, add its name to the tuple below as well.
tests/data/label_formats/test_contract.py runs over all layouts.
"""

from types import ModuleType

from birdnet_fs.data.label_formats import (
    animal_spot,
    audacity,
    birdclef,
    birdclef_soundscapes,
    dcase,
    folders,
    manifest_csv,
    plain_csv,
    raven,
)

LAYOUTS: dict[str, ModuleType] = {
    "manifest": manifest_csv,  # what write_manifest writes
    "birdclef": birdclef,  # train.csv with primary_label, audio in train_audio/
    "birdclef_soundscapes": birdclef_soundscapes,  # row_id, audio_id, seconds, birds: a row per window of 5 s
    "dcase": dcase,  # few-shot CSVs: Audiofilename, Starttime, Endtime, POS/NEG/UNK
    "csv": plain_csv,  # any other CSV with a path column
    "raven": raven,  # folder of Raven selection tables
    "audacity": audacity,  # folder of Audacity label tracks
    "animal_spot": animal_spot,  # LABEL-INFO_ID_YEAR_TAPE_STARTms_ENDms.wav
    "folders": folders,  # one folder per class
}
FILE_LAYOUTS = ("animal_spot", "folders")  # labels are names of files and folders; no table is read
OWN_LABELS = ("manifest", "birdclef_soundscapes", "dcase", "audacity", *FILE_LAYOUTS)  # data.label_column is not used
EVENT_LAYOUTS = (
    "birdclef_soundscapes",
    "raven",
    "audacity",
    "dcase",
)  # rows are timed events in recordings annotated from start to end
