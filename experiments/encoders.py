"""Heads on foreign encoders: the encoder is a file of the user's, given on the command line as model.encoder=FILE."""

from birdnet_fs.schema import Data, EncoderHead, Experiment, Model


def birds10_birdnet(*, quick: bool = False) -> Experiment:
    """Ten North American species, a head on embeddings.

    Launch: birdnet-fs cv config.py:birds10_birdnet data.root=../shared/data model.encoder=FILE

    FILE: for example BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite (`birdnet-fs encoders` names its source). It was
    trained on recordings of xeno-canto, probably these among them: the numbers of this experiment are no test of it.
    """
    return Experiment(
        name="birds10_birdnet",
        seed=0,
        data=Data(root="../shared/data", table="metadata.csv", audio="audio", where="set=birds10"),
        debug=quick,
    )


def soundscapes_birdnet(*, quick: bool = False) -> Experiment:
    """Ten species in soundscapes, several at a time: the embedding and the encoder's own scores of the species.

    Launch: birdnet-fs train config.py:soundscapes_birdnet data.root=../shared/data model.encoder=FILE

    The head is fitted to windows with the exact times of the events; segments of 5 s are scored by
    birdnet-fs evaluate RUN ../shared/data/windows_5s.csv data.audio=audio data.label_column=labels
    data.where=set=soundscape_mix,split=test data.segment_s=5 data.segment_hop_s=5 -o FOLDER
    """
    return Experiment(
        name="soundscapes_birdnet",
        seed=0,
        data=Data(
            root="../shared/data",
            table="annotations.csv",
            audio="audio",
            label_column="label",
            where="set=soundscape_mix",
            multi_label=True,
            split="table",
            segment_hop_s=1.0,
            clip_hop_s=1.0,  # windows of 3 s at 0, 1 and 2 s of a segment of 5 s
        ),
        model=Model(encoder_head=EncoderHead(own_scores="blend")),
        debug=quick,
    )
