"""Small data folders in every layout of labels."""

import numpy as np
import soundfile as sf


def tone(path, seconds=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, 0.1 * np.sin(np.arange(round(seconds * 8000)) * 0.3), 8000)


def text(path, content, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(encoding))


def as_folders(root):
    for name in ("Parus major/1.wav", "Parus major/deep/2.wav", "A,B/3.wav", "-A/4.wav", "noise/5.wav"):
        tone(root / name)


def as_csv(root):
    for name in ("a", "b", "c"):
        tone(root / f"sounds/{name}.wav")
    text(
        root / "metadata.csv",
        "File,species,secondary,site,fold,split\n"
        "sounds/a.wav,\"Turdus, merula\",['x'; 'y'],s1,0,train\n"
        "b.wav,Pica pica,\"['x', 'z']\",s1,1,test\n"
        "c,nocall,,s2,,\n",
    )


def as_birdclef(root):
    tone(root / "train_audio/abc/XC1.ogg")
    tone(root / "train_audio/def/XC2.ogg")
    text(
        root / "train.csv",
        "primary_label,secondary_labels,filename,author\nabc,\"['def', 'ghi']\",abc/XC1.ogg,M\ndef,[],def/XC2.ogg,N\n",
    )


def as_birdclef_soundscapes(root):
    for name in ("7019_COR_20190904", "7843_SSW_20170325"):
        tone(root / f"train_soundscapes/{name}.ogg", 12.0)
    text(
        root / "train_soundscape_labels.csv",
        "row_id,site,audio_id,seconds,birds\n7019_COR_5,COR,7019,5,nocall\n7019_COR_10,COR,7019,10,rucwar\n"
        "7843_SSW_5,SSW,7843,5,rucwar obnthr1\n",
    )


def as_raven(root):
    head = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tAnnotation\n"
    for name in ("one", "two", "three", "four"):
        tone(root / f"audio/{name}.wav", 6.0)
    text(
        root / "tables/one.Table.1.selections.txt",
        head + "1\tSpectrogram 1\t1\t0.5\t1.5\tX\n1\tWaveform 1\t1\t0.5\t1.5\tX\n2\tSpectrogram 1\t1\t5\t5.5\tY\n",
    )
    text(root / "tables/two.selections.txt", head)
    text(
        root / "tables/three.selections.txt",
        "Selection\tBegin Time (s)\tEnd Time (s)\tCommon Name\n1\t0\t3\tGreat Tit\n",
    )
    text(
        root / "tables/all.txt",
        "Selection\tBegin Time (s)\tEnd Time (s)\tBegin File\tFile Offset (s)\tSpecies Code\n"
        "1\t66\t67.5\tfour.wav\t2.25\tgretit\n",
    )


def as_audacity(root):
    tone(root / "one.wav", 6.0)
    tone(root / "two.wav")
    text(root / "one.txt", "0.5\t1.5\tX\n\\\t100\t900\n2.0\t3.0\tnoise\n")
    text(root / "two.txt", "")


def as_dcase(root):
    tone(root / "BV/r1.wav", 6.0)
    text(
        root / "BV/r1.csv",
        "Audiofilename,Starttime,Endtime,AMRE,BBWA\nr1.wav,0.5,1.0,POS,NEG\nr1.wav,2,3,UNK,UNK\nr1.wav,4,5,NEG,POS\n",
    )


def as_animal_spot(root):
    for name in (
        "call-N4_x_12_2019_A38_100_900.wav",
        "noise-boat_13_2019_A38_1000_1900.wav",
        "call-_2_2020_B1_0_9.wav",
    ):
        tone(root / name)


WRITERS = {
    "folders": (as_folders, False),
    "csv": (as_csv, False),
    "birdclef": (as_birdclef, True),
    "birdclef_soundscapes": (as_birdclef_soundscapes, True),
    "raven": (as_raven, True),
    "audacity": (as_audacity, True),
    "dcase": (as_dcase, True),
    "animal_spot": (as_animal_spot, False),
}
