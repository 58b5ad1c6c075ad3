"""Every tolerance of the tests, with its reason. A test names its row; nothing is loosened elsewhere.

Tolerances of exports are the product's own (export/parity/tolerances.py, embeddings.py). The others are at least three
times the largest error seen with the instruction sets in CONTRIBUTING: `pytest --tolerance-margin 3` divides all but
`NOT_ROUNDING` by three and must pass on any processor.
"""

from birdnet_fs.export.parity import embeddings, tolerances

# name = value  # reason

# two processes against one
DIVIDED_GRADIENT = 1e-6  # relative to the largest of an array; in float64, with teachers' embeddings in float32
DIVIDED_WEIGHTS = 1e-9  # the same after 51 steps of SGD in float64: sums in another order
DIVIDED_LOSS = 1e-3  # losses of 51 steps of AdamW in float32, which grow apart

# scoring
ACTIVATION_FLOAT64 = 1e-14  # relative: float64 exponentials, whose last digits differ with the processor's instructions
SUBNORMAL = 2.3e-308  # float64 numbers below have fewer digits, and some libraries flush them to 0
ACTIVATION = 1e-6  # softmax and sigmoid in float32 against float64, values in 0..1
LOGITS_FLOAT64 = 1e-12  # logits up to 90 in float64: rounding of 1 - p and of the logarithms
LOGITS_FLOAT32 = 1e-5  # logits up to 90 in float32, whose step there is 8e-6
SOFTMAX_OF_LOGS = 1e-6  # relative: the float32 probabilities of a row sum to 1 but for their rounding
ENGINE_LOGITS = 4e-5  # lowered, BatchNorm-folded torch against Keras, logits up to 7, sums in other order (seen: 9e-6)
ENGINE_EMBEDDINGS = 2e-6  # the same for embeddings, relative to the largest number of one (up to 83; seen: 2.8e-7)
ARTIFACT_MATMUL = (
    1e-3  # TFLite float32 dot products of 4,000 terms (|sum| up to 300; of dB features, up to 1e4: relative)
)
ENSEMBLE_PROBABILITIES = 2e-6  # float32 logits up to 10 and their way back, against float64 from the same features
FOUR_DIGITS = 1e-3  # sum of fifteen confidences written with four digits
RANKS_OF_SIX = 1e-3  # positions among six scores that may lie 1e-3 apart: float32 probabilities times that slope
FLOAT64_SUMS = 1e-12  # relative: float64 sums and powers in another order
ENCODER_STAND_IN = 3e-5  # relative to the largest value: float32 sums of 3,000 and 1,024 terms in any order
INNER_PRODUCTS = 1e-5  # relative to the product of the lengths: float32 sums of up to 1,024 terms in any order
JOINED_BIRDNET = 1e-5  # what is promised: log-odds up to 8 of a head on 1,024 numbers of one encoder (seen: 5.6e-6)
JOINED_BIRDNET_OWN = 1e-4  # the same with logits of BirdNET up to 15, with weights up to 2
JOINED_BIRDNET_HOST = 1e-4  # probabilities by another program on the same runtime (seen: 1e-6)
EMBEDDINGS_OF_OTHERS = 0.9999  # cosine that is promised: the same file on the same runtime (seen: 1.0)
OWN_LOGITS = 1e-5  # float32 logarithms of probabilities up to 16 (seen: 2e-6)
JOINED_STAND_IN = 1e-4  # relative to the largest value: a stand-in, and the square root of an embedding near 0
STORED_HEAD = 1e-5  # probabilities: float32 embeddings kept and the same head, in batches of other sizes
FLOAT16_COSINE = 2e-3  # cosine of embeddings that are rounded to 11 bits, each value by 5e-4 of itself
FLOAT16_HEAD = 5e-3  # probabilities of a head on embeddings rounded to 11 bits: logits of order 10 move by 5e-4 of that
MAP_OBJECTIVE = 1e-6  # sum of 600 cross-entropies at the minimum of two methods, each ended by its own tolerance
MAP_COEFFICIENTS = 1e-3  # of logistic regression, which lbfgs ends at a gradient of 1e-9 per row

# export
EXPORT_READER_FEATURES = 2e-4  # float64 NumPy against the package's blocked float32 FFT, relative to the largest value
EXPORT_FP32_LOGITS = tolerances.TOLERANCES["fp32"].max_abs  # what the gate of exports allows; seen: 1e-5 or less
# probabilities rounded to four digits, of logits within EXPORT_FP32_LOGITS
TABLE_OF_FOUR_DIGITS = tolerances.MAX_SLOPE["softmax"] * EXPORT_FP32_LOGITS + 0.5e-4
LOG_ODDS = 1e-6  # relative to the largest of 1 and the value: float32 powers, sums and a logarithm against long doubles
LOG_ODDS_FLOAT64 = 1e-9  # up to 600, by powers that were summed in float64: the last digits of what was subtracted
EXPORT_FP16_COSINE = (
    embeddings.EMBEDDING_TOLERANCES["fp16"].max_error / 2
)  # of the scale: such embeddings have length 1 or more
ENROLLED_ON_DEVICE = 1e-4  # float32 in the runtime against torch, cosines times a scale of tens (seen: 2e-5)
EXPLICIT_ZEROS = 1e-6  # the same 75 products of order .1 in another order
INT8_RMS = 0.15  # root mean square error over the spread of the logits: 8 bits in each of fourteen operators
INT8_TWO_FRONT_ENDS = 0.1  # the same where features on the edge of a step are rounded the other way
EXPORT_FP16_LOGITS = tolerances.TOLERANCES["fp16"].max_abs  # what the gate of exports allows: weights keep 11 bits
EXPORT_INT8_MEAN = tolerances.TOLERANCES[
    "int8"
].mean_abs  # of the spread of the logits, what the gate of exports allows
EXPORT_INT8_CHANCE = 0.1  # in a probability, of the same networks

# training
RATE = 1e-9  # both are float64; torch multiplies step by step
LOSS = 1e-5  # float32 log-sum-exp against float64 or torch's own order of sums
LOSS_FLOAT64 = 1e-12  # both are float64 (seen: 2e-16)
SLOPE = 1e-8  # central differences of step 1e-6 in float64, slopes up to .4 (seen: 3e-10)
TAUGHT = 5e-4  # six AdamW steps of 3e-3 by nine-digit probabilities or by logits, weights or the loss (seen: 9.4e-5)
BACKENDS_LOGITS = 1e-5  # torch and TensorFlow sum float32 convolutions in another order; logits are of order 1
LOOP_WEIGHTS = (
    2e-5  # six AdamW steps of 1e-2 over lowered against plain Keras layers; Adam divides rounding by its own size
)

LOGISTIC = 1e-3  # of coefficients up to 10: slopes below 1e-4 of l2 at the end, against scikit-learn's (seen: 1e-4)
TRANSFORMED = 1e-5  # float32 numbers of order 1 after division by a deviation
CALIBRATED = 1e-3  # relative: the same minimum from data in another order, L-BFGS ends at slopes below 1e-5

# models
ROUNDINGS = 5  # of one rounding of every number (models/exact.py): seen 1.6 in torch, TensorFlow, TFLite and ONNX
ROUNDED_AWAY = 1e-3  # of the largest logit, what ROUNDINGS come to (seen: 3.4e-4): a wrong rule is off by .01 or more
LOWERED_OUTPUT = 2e-5  # of the largest value: float32 sums in another order, inference (seen: 3e-6)
LOWERED_TRAINING = 1e-4  # the same over batch statistics of 16 values: Keras and lowered each 1.5e-5 off float64
ROUNDED = 1e-6  # of a range: the same of 256 values, computed in float32 (at half of a step either is right)
FOLDED = 5e-5  # of the largest logit: BatchNorm in float64 into float32 kernels, sums in another order (seen: 2e-5)
EIGHT_BITS = 0.2  # of the largest logit, on average: roundings of a network with random weights, 100 layers (seen: .1)
STEPS_TURNED = 8  # steps of the logits' 8 bits: a sum in another order turns a rounding, and those behind it
ON_GRID = 1e-3  # of a step: float32 logits of up to 255 steps
SHARE_FURTHER = 0.03  # of the logits more than two steps off in the int8 runtime, whose biases are rounded too
FLOAT32_MEAN = 1e-5  # moving means of float32 numbers
LOWERED_STATISTICS = 1e-5  # of the largest value: moving mean and variance, float32 (seen: 3e-6)
LOWERED_GRADIENT = 1e-3  # of a variable's largest gradient, float32 against float64; a wrong rule is off by .01 or more
REPEATED_CLIPS = 0.11  # mean over 400 epochs: four standard errors of .025, and a whole number of items an epoch
DROPPED_SHARE = 0.04  # four standard errors of a share of .25 over 2,000 draws
BFLOAT16_OUTPUT = 0.1  # of the largest logit: bfloat16 has 8 bits, .4 % a layer
ONNX_OUTPUT = 1e-4  # of the largest value: onnxruntime sums float32 in another order (seen: 3e-6)
KERAS_TWIN = 1e-4  # EfficientNetV2-B0 against keras.applications, same weights, logits of order 1
BACKENDS = 1e-4  # of the largest logit: torch, TensorFlow and TFLite, float32, of heads and loops (seen of heads: 3e-6)
BATCH_NEIGHBORS = 1e-5  # of the largest logit: alone and in a batch, float32 sums in another order (seen: 2.3e-6)
DECIBELS_FLOAT32 = 1e-4  # dB: float32 means over 50 frames of values up to 80
PYTORCH_TWIN = 1e-4  # a network against its plain PyTorch twin, same weights, outputs of order 1 (seen: 1.2e-5)
DISTANCES = 1e-6  # of the largest product: float32 sums of 64 products against float64 (seen: 1e-7; in bfloat16 1e-3)
STRIPE_ERRORS = 5  # standard errors of a share over 2,000 draws; the largest of 117 cells reaches 3 by chance
POSITIONS = 1e-5  # bicubic weights in float64 against torch's float32, values up to 4
FRESH_DEVIATION = 0.01  # of random weights around the published one: 70,000 draws and more, .27 % standard error
FIRST_ADAM_STEP = 1e-3  # of the learning rate: Adam's epsilon beside a gradient above 1e-5, and float32
ONE_STEP = 1e-6  # one float32 product and difference of values of order 1

# metrics
EXACT_METRIC = 1e-12  # integer counts and one float64 division; scikit-learn sums trapezoids
SAME_DRAWS = 1e-9  # the same bootstrap draws; only repeated rows differ
COVERAGE_OF_100 = (88, 100)  # of 95 % intervals: binomial error is 2.2, the percentile method loses a little
FLOAT32_LOG = 1e-6  # Keras logs pass through float32

# motifs
TRIPLET_LOSS = 1e-5  # relative: float32 sums of 8 squares, and differences of two norms

# fewshot
BINOMIAL_ERRORS = 4.5  # standard errors of a count; the largest of 36 counts reaches 3.2 by chance
CORRELATION = 2e-6  # sums of products up to 1 by a float32 FFT of 64 points against float64 (seen: 3e-7)
DETECTION_FRAMES = 1e-3  # log(1 + power / background) up to 10: float32 power against librosa's float64
PROBE_SCORES = 1e-4  # logits up to 3: gradient steps in float32 until none moves by 3e-6, against L-BFGS (seen: 4e-5)
OFFSET_ACCURACY = 2e-3  # share of 3,000 queries: float32 keeps 3e-5 of 1,000, so that a few near ties turn
PROTOTYPES = 2e-5  # embeddings up to 5 in float32: the lowered network and sums in another order
LOSS_OF_SCORES = 1e-4  # cross-entropy of probabilities that the folded network gives in float32, and nine digits
BARELY_TRAINED = 1e-7  # steps of AdamW at a learning rate of 1e-9, on weights of order 1
NAMED_AGAIN = 0.01  # of 600 queries: a score within float32 rounding of another may win in the folded network

# motifs
JOIN_FLOAT64 = 1e-9  # what is promised: squared distances of order 1 to 50 in float64, sums in another order
JOIN_FLOAT32 = 1e-4  # what is promised: by how much a neighbor found in float32 may be farther than the nearest
CENTERED_EMBEDDINGS = 1e-5  # float32 embeddings of order 1 minus their mean, scaled to length 1 (seen: 1.5e-7)
SHAPE_FEATURES = 3e-5  # unit frames of logarithms of float32 powers, against librosa's FFT (seen: 3e-6)

# aviary
SONG_IN_BAND = 0.98  # notes are short: their edges spread a little power outside the pitch
WEATHER_RMS = 1e-5  # float32 squares of 32,000 samples and one division
PHASE_STEP = 2e-3  # the trapezoid rule at 32 against 128 kHz on a sweep
ALIASED_POWER = 1e-6  # -60 dB above the Nyquist frequency
SNR_DB = 0.1  # the edges of the band fall between two bins

# recordings
SAME_RESAMPLER = 2e-6  # float32 soxr HQ against librosa's call of the same: summation order of the channel mean
PART_OF_WHOLE = 2e-6  # a part is resampled from another start: float32 rounding of the filter (measured 3e-7)
ODD_RATE_PART = 2e-5  # 44,101 Hz: soxr rounds the ratio, its phase drifts with time (measured 3e-6 after 10 s)
MP3_PART = 1e-5  # mpg123 keeps filter state across frames in float32 after the run-up

# batches
FILTER_DB = 2e-3  # dB: float32 octaves (seen: 1e-5 on the curve, 1e-3 on tones between two of its points)
FFT_THERE_AND_BACK = 2e-6  # float32 FFT and back of values up to 4
NOISE_SLOPE = 0.02  # of a straight line through 1,900 Welch bins of 60 s, each 5 % off
NOISE_EVEN = 0.1  # mean power of ten Welch bins over that of two, each 5 % off; brown noise bends at 100 Hz
STRETCHED_LEVEL = 0.01  # rounded places of the frames, and the resampler at its edges
TEACHER_FEATURES_DB = 1e-3  # dB: float32 resampling and features, computed alone and in windows or mixed
STRETCHED_SONG = 0.05  # log10 power over 1e-3, mean over the spectrogram (seen: .03; librosa .15)

# frontend
# dB to librosa on real audio, the package's promise. The largest error (seen: 6.6e-4) follows from the share of energy
# below which a band is computed in float64 (BLUR in frontend/in_numpy.py), not from the processor: it is not divided.
FRONTEND_DB = 1e-3
FRONTEND_RMS_DB = 5e-5  # dB: float32 FFT of loud tones over noise, root mean square (seen: 1.1e-5)
FRONTEND_TONES_DB = 3e-3  # dB: the largest of these: errors add up in a few bins (seen: 9e-4; 1.3e-3 of 2,400 tones)
FRONTEND_BLUR_DB = 5e-4  # dB: a tone over noise; below the 9e-4 that float32 alone gives (seen: 1.6e-4)
FRONTEND_LOG = 1e-6  # of the result, or of 1 dB: eight float32 steps (exponent, series and sum round; seen: 2.5 steps)
FRONTEND_FLOAT64 = 1.5e-4  # features, dB at most: in_numpy, in_tf, in_keras rfft (float64 where it shows; seen: 4e-5)
SHORT_CLIPS = 1e-5  # z-scores of clips against librosa in float64: one float32 step of dB up to 100 (seen: 2.3e-6)
FRONTEND_HARD_CASES = 1.5e-4  # as FRONTEND_FLOAT64: clipping and an impulse (seen: 1.6e-5)
FRONTEND_DFT_DB = 0.02  # dB: a float32 DFT rounds to 1e-7 of the frame's loudest bin, bands 80 dB below it feel that
FRONTEND_PARTS_DB = 3e-4  # dB: a tone 100 dB over noise, float32 in two parts (seen: 8e-5; in one part: 0.02 and more)
FRONTEND_PCEN = 1e-4  # PCEN, 0 to 6 (to 13 at other settings), in float32 (seen: 1.2e-5; on the edge of 24 bits 6e-5)
FRONTEND_SMOOTHER = 1.2e-6  # of the largest value: float32 products against scipy's float64 filter (seen: 3.5e-7)
FRONTEND_FLOAT32 = {  # features of in_keras dft and TFLite (all float32) against in_numpy, synthetic segments
    "cnn_32k": 2e-4,  # min_max and (dB + 80) / 100 are dB / 80 to dB / 100: 0.02 dB
    "birdnet_3s_48k": 2e-4,
    "birdclef2025": 2e-4,
    "echo_engine": 2e-4,
    "echo_benchmark": 2e-4,
    "torch_impl": 2e-4,
    "echo_edge": 2e-3,  # dB over a deviation of 10 dB and more
    "animal_spot": 5e-5,  # in two parts, as the four below
    "panns": 1e-4,  # dB
    "fewshot": 1e-5,  # dB over a deviation of 10 dB and more
    "fewshot_pcen": 1e-4,
    "tilenet": 5e-5,  # dB / 4.3
}
FRONTEND_RFFT2D = 1.5e-4  # features, dB at most: a float64 FFT of float32 windowed samples, as FRONTEND_FLOAT64
FRONTEND_POOLED = 1e-3  # sum of 96 averages of min_max features over two backends' float32 DFT
FRONTEND_RESIZE = 3e-4  # of the largest value: tf.image.resize computes its weights in float32 (seen: 9.4e-5)
FRONTEND_MATRIX = 1e-12  # of the largest weight: float64 in another order

SPECTRUM = 1e-6  # relative to the largest power of a spectrum: float64 FFTs, and sums of squares in float32

SPECTRUM_LOG = 2e-3  # of single bins far below the loudest one, by matrix products in float32 with numbers in two parts

# few-shot
PROTOTYPE_LOGITS = 2e-5  # of the largest: float32 embeddings and their products in another order

# What the processor does not change: shares and counts of seeded draws, steps of 8 bits, physics, promises to users.
NOT_ROUNDING = frozenset(
    [
        "JOINED_BIRDNET",
        "JOINED_BIRDNET_OWN",
        "OWN_LOGITS",
        "EMBEDDINGS_OF_OTHERS",
        "FOUR_DIGITS",
        "TABLE_OF_FOUR_DIGITS",
        "RANKS_OF_SIX",
        "NAMED_AGAIN",
        "OFFSET_ACCURACY",
        "BINOMIAL_ERRORS",
        "STRIPE_ERRORS",
        "COVERAGE_OF_100",
        "DROPPED_SHARE",
        "FRESH_DEVIATION",
        "FIRST_ADAM_STEP",
        "BFLOAT16_OUTPUT",
        "EIGHT_BITS",
        "STEPS_TURNED",
        "SHARE_FURTHER",
        "INT8_RMS",
        "INT8_TWO_FRONT_ENDS",
        "EXPORT_FP16_COSINE",
        "EXPORT_FP16_LOGITS",
        "EXPORT_INT8_MEAN",
        "EXPORT_INT8_CHANCE",
        "SONG_IN_BAND",
        "PHASE_STEP",
        "ALIASED_POWER",
        "SNR_DB",
        "NOISE_SLOPE",
        "NOISE_EVEN",
        "STRETCHED_LEVEL",
        "STRETCHED_SONG",
        "FRONTEND_DB",
    ]
)


def tighten(margin: float) -> None:
    """Divide every tolerance of rounding, for all tests of this process.

    Args:
        margin: Divisor, above 0.
    """
    for name, value in list(globals().items()):
        if name.isupper() and name not in NOT_ROUNDING and name != "NOT_ROUNDING":
            each = {key: one / margin for key, one in value.items()} if isinstance(value, dict) else value / margin
            globals()[name] = each
