"""One recording with three detections, for the tests of table formats."""

from pathlib import Path

from birdnet_fs.analysis.detections import Detection, RecordingDetections

RECORDING = RecordingDetections(
    path=Path("/rec/site 1/a.wav"),
    root=Path("/rec"),
    low_hz=50.0,
    high_hz=14_000.0,
    detections=(
        Detection(0.0, 5.0, "Turdus merula_Eurasian Blackbird", 0.98765),
        Detection(2.5, 7.5, "nocall", 0.25),
        Detection(3600.0, 3601.234567, 'Avis fictiva_Some, "odd" bird', 1.0),
    ),
)
