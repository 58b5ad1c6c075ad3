"""Random streams: one generator for each (seed, stream, keys), so that no two purposes share random numbers.

NumPy pads seeds with zeros and splits large numbers into 32-bit words: `default_rng(7)`, `default_rng((7, 0))` and
`default_rng((7, 0, 0))` are the same generator, and so are `default_rng(2**32)` and `default_rng((0, 1))`. Here every
generator is seeded with 32-bit words of fixed meaning:

    seed (2 words) | stream (1 word, never 0) | 1 + number of keys (1 word) | each key (2 words)

Different (seed, stream, keys) have different words, and there are never fewer than four words, which is the length up
to which `numpy.random.SeedSequence` pads with zeros. Since the fourth word is not zero, no plain seed of one to three
32-bit numbers equals a stream either. The sequence hashes the words to 128 bits, so two generators coincide with
probability 2**-128.
"""

import enum

import numpy as np

from birdnet_fs.core.errors import UserError

MAX_INTEGER = 2**64 - 1  # of a seed and of a key: two words


class Stream(enum.IntEnum):
    """Purpose of the random numbers. Results depend on these values: never change or reuse one."""

    # division of the recordings
    LIMIT = 1  # clips that data.limit keeps
    SPLIT = 2  # groups of data.split=80/20 and 70/15/15
    VALIDATION = 3  # groups that data.val_fraction takes from the training part of a fold
    FOLDS = 4  # groups of data.n_folds
    CLASSES = 5  # classes of data.split=classes
    # training
    INITIAL_WEIGHTS = 6  # Keras initializers; key: generation of self-distillation
    TORCH = 7  # torch's global generator: dropout, noise and masks inside a network; key: generation
    PROCESS_TORCH = 90  # torch's global generator in one of several processes; keys: step, rank
    FIT_ORDER = 91  # items of an epoch of keras.Model.fit; key: epoch
    # 8 and 9 were streams of earlier versions, from which nothing was drawn
    ORDER = 10  # clips of an epoch and their order; key: epoch
    AUGMENTATION = 11  # crop and changes of one item; keys: epoch, place in the epoch
    BATCH_MIXUP = 12  # mixup that a batch shares; keys: epoch, number of the batch
    BATCH_TIME_MASKS = 13  # time masks that a batch shares; keys: epoch, number of the batch
    BATCH_FREQUENCY_MASKS = 14  # frequency masks that a batch shares; keys: epoch, number of the batch
    # few-shot episodes
    TRAINING_EPISODES = 15  # key: epoch
    VALIDATION_EPISODES = 16  # the same after every epoch; key: 0
    TEST_EPISODES = 17  # on the classes a run held out; key: 0
    EVALUATION_EPISODES = 18  # of the verb that evaluates a run on new classes; key: 0
    EPISODE_MIXING = 92  # queries of an episode that are mixed with one another; keys: epoch, number of the episode
    DETECTION_NEGATIVES = 48  # windows of a recording that are negative examples of few-shot detection
    # measuring and tuning
    BOOTSTRAP = 19  # groups drawn for a confidence interval
    TRIALS = 20  # Optuna's sampler; key: number of trials drawn before
    IMPORTANCES = 21  # Optuna's forest that ranks the settings of a study
    # heads on the embeddings of an encoder
    HEAD_FOLDS = 22  # groups of the folds of training clips on which a head is chosen
    LABEL_SELECTION = 23  # windows of a store to label next; key: number of labeled windows
    HEAD = 24  # initial weights, order and mixup of a head that is trained by gradient
    HEAD_TORCH = 25  # dropout of a head that is trained by gradient, by torch's global generator
    HEAD_DIRECTIONS = 26  # first directions of the weights of a cosine head
    HEAD_VIEWS = 27  # augmented views of a clip; keys: clip, view, 0 for what is mixed in or 1 for the other changes
    HEAD_SMOTE = 95  # synthetic embeddings of a rare class; key: number of the class
    # parity of exported files
    PARITY_ROUNDINGS = 70  # noise of one rounding on a segment; key: number of the draw
    # motifs
    MOTIF_SAMPLE = 28  # recordings that are mined of a larger set
    # detection of windows without calls
    NO_CALL_SPLIT = 32  # recordings for training, validation and test of a no-call model; key: number of the draw
    NO_CALL_FOLDS = 33  # folds of a no-call model; key: number of the draw
    NO_CALL_NETWORK = 34  # initial weights and order of a small network that finds windows without calls
    # calibration and thresholds
    CALIBRATION_FOLDS = 37  # order of the recordings that are divided into folds
    # the submission classifier on motif clips
    CLASSIFIER_CLIPS = 35  # source and changes of an augmented clip; keys: hash of the class, number of the clip
    CLASSIFIER_SPLIT = 36  # recordings of a class for training and test; key: hash of the class
    # triplets of motifs and Tile2Vec
    TRIPLETS = 40  # groups, classes, recordings and places of a table of triplets
    TRIPLET_ORDER = 41  # files of the queue and rows; key: pass through the rows
    TRIPLET_SEGMENTS = 42  # time shifts, and the distant segment; key: number of the batch
    TRIPLET_AUGMENTATION = 43  # changes of one segment; keys: number of the batch, row, 0 for anchor or 1 for neighbor
    TRIPLET_VALIDATION = 44  # recordings that are held out
    # verification of detections by a person
    VERIFICATION_SAMPLE = 80  # windows of a class that are drawn; key: hash of the class
    TILE2VEC = 45  # torch's global generator, which Keras' initializers and dropout use


def generator(seed: int, stream: Stream, *keys: int) -> np.random.Generator:
    """Random generator of one stream.

    Args:
        seed: 0 to 2**64 - 1, usually that of the experiment.
        stream: Purpose of the numbers.
        *keys: Each 0 to 2**64 - 1: further dependencies of the numbers, such as the epoch. A stream has the same
            number of keys wherever it is used.

    Returns:
        A new generator. Equal arguments give equal numbers; any other arguments give independent ones. A seed or key
        that is not a whole number in its range is refused with a UserError.

    >>> float(generator(7, Stream.ORDER, 0).random()) == float(generator(7, Stream.ORDER, 0).random())
    True
    >>> float(generator(7, Stream.ORDER, 0).random()) == float(generator(7, Stream.TRAINING_EPISODES, 0).random())
    False
    """
    return np.random.default_rng(_sequence(seed, stream, keys))


def integer_seed(seed: int, stream: Stream, *keys: int) -> int:
    """Seed for a library that takes an integer instead of a generator (torch, scikit-learn, Optuna, Python's random).

    Args:
        seed: 0 to 2**64 - 1, usually that of the experiment.
        stream: Purpose of the numbers.
        *keys: Each 0 to 2**64 - 1: further dependencies of the numbers, such as the epoch.

    Returns:
        0 to 2**32 - 1. These are hashes: two streams coincide with probability 2**-32.
    """
    return int(_sequence(seed, stream, keys).generate_state(1)[0])


def _sequence(seed: int, stream: Stream, keys: tuple[int, ...]) -> np.random.SeedSequence:
    words = [*_two_words(seed, "seed"), int(Stream(stream)), 1 + len(keys)]
    for key in keys:
        words += _two_words(key, f"A key of the random stream {Stream(stream).name}")
    return np.random.SeedSequence(np.array(words, np.uint32))


def _two_words(number: int, name: str) -> tuple[int, int]:
    if not (isinstance(number, (int, np.integer)) and 0 <= number <= MAX_INTEGER):
        raise UserError(f"{name} must be a whole number in 0..{MAX_INTEGER}. Received: {number!r}")
    return int(number) & 0xFFFFFFFF, int(number) >> 32
