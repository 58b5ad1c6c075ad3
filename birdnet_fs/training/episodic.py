"""Training in episodes: a few classes, a few clips of each to learn from (support), a few more to name (query).

Source: Snell, Swersky, Zemel 2017, "Prototypical Networks for Few-shot Learning", https://arxiv.org/abs/1703.05175:
a class is the mean of its support's embeddings, its logit falls with the distance to it, cross-entropy on the
queries. Validation and test are episodes over classes that are not trained on. At the end the training classes'
prototypes become weights of the head, which makes a finished run an ordinary classifier of them.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import torch
from scipy.special import logsumexp

from birdnet_fs import models, schema
from birdnet_fs.batches.loader import EpisodeOrder
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import track
from birdnet_fs.core.random_streams import Stream
from birdnet_fs.data.episodes import EpisodeIndices, draw_episodes
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.partition import Partition
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.inference.embed import Embedder, Item
from birdnet_fs.metrics.few_shot import METHODS, FewShotAccuracy, Method, few_shot_accuracy
from birdnet_fs.runs.history import Weights, accuracy_columns
from birdnet_fs.training import losses
from birdnet_fs.training.objective import Objective


def episodic_objective(model: keras.Model, settings: schema.Episodes) -> Objective:
    """What training in episodes makes smaller; batches are those of `loader.EpisodeOrder`.

    Args:
        model: A network with the head "prototypes". Its dropout acts on the embeddings.
        settings: Of the episodes.
    """
    head = model.get_layer("logits")
    size = settings.n_shot + settings.n_query

    def logits_of(embeddings: torch.Tensor, training: bool) -> torch.Tensor:
        by_class = embeddings.reshape(settings.n_way, size, -1)
        prototypes = by_class[:, : settings.n_shot].mean(1)
        queries = by_class[:, settings.n_shot :].flatten(0, 1)
        return head.compare(queries, prototypes, training=training)

    def loss(embeddings: torch.Tensor, targets: torch.Tensor, label_smoothing: float) -> torch.Tensor:
        logits = logits_of(embeddings, training=True)
        truth = torch.eye(settings.n_way, device=logits.device).repeat_interleave(settings.n_query, 0)
        return losses.cross_entropy(logits, truth, label_smoothing)

    def calls(embeddings: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        by_class = targets.reshape(settings.n_way, size, -1) > 0
        way = logits_of(embeddings, training=False).argmax(1)
        return by_class[:, settings.n_shot :].flatten(0, 1), by_class[:, 0][way]

    return Objective(models.with_outputs(model, ["dropout"]), loss, monitor="val_acc", predictions=calls)


def check_episodes(parts: Partition, settings: schema.Episodes, seed: int) -> None:
    """See that all episodes can be drawn, before anything is decoded.

    Raises:
        UserError: They cannot; or classes that are validated or tested on are also trained on.
    """
    EpisodeOrder(parts.train, settings, seed)
    for name, n_episodes, clips, stream in (
        ("n_val", settings.n_val, parts.val, Stream.VALIDATION_EPISODES),
        ("n_test", settings.n_test, parts.held_out, Stream.TEST_EPISODES),
    ):
        if n_episodes and not clips:
            raise UserError(f"episodes.{name}={n_episodes} needs classes that are kept away from training; none are.")
        if n_episodes:
            draw_items(clips, settings, n_episodes, seed, stream)
    if (settings.n_val or settings.n_test) and not parts.classes_unseen_in_training:
        trained = {label for clip in parts.train for label in clip.labels}
        both = sorted({label for clip in (*parts.val, *parts.held_out) for label in clip.labels} & trained)
        raise UserError(
            f"Episodes are validated and tested on classes that are not trained on; the split has {len(both)} on both "
            f"sides (the first: {both[0]}). Use data.split=classes, or another data.split_column."
        )


def episode_order(waveforms: Waveforms, settings: schema.Episodes, seed: int, classes: Sequence[str]) -> EpisodeOrder:
    """The episodes to train on.

    Raises:
        UserError: None of the clips of a class could be read, or too few to draw from.
    """
    lost = sorted(set(classes) - {clip.labels[0] for clip in waveforms.clips})
    if lost:
        raise UserError(f"None of the clips of {lost[0]} could be read; leave the class out or mend its recordings.")
    return EpisodeOrder(waveforms.clips, settings, seed)


def draw_items(
    clips: Sequence[Clip], settings: schema.Episodes, n_episodes: int, seed: int, stream: Stream
) -> tuple[list[Item], EpisodeIndices]:
    """Episodes over whole clips, or over parts of those of a class that has too few.

    With `settings.same_recording` a class with fewer clips than an episode takes gives windows: a clip is cut in two,
    and windows of one half never stand in the support while the other half's do, so that nothing is heard twice.

    Returns:
        The items, and episodes of their numbers. Their `recordings` is "across"; with same_recording "within" when
        every class has one recording, else "any".

    Raises:
        UserError: As `episodes.draw`.
    """
    n_clips: dict[str, int] = {}
    for clip in clips:
        n_clips[clip.labels[0]] = n_clips.get(clip.labels[0], 0) + 1
    items = []
    for i, clip in enumerate(clips):
        if settings.same_recording and n_clips[clip.labels[0]] < settings.n_shot + settings.n_query:
            n = max(settings.n_shot, settings.n_query)
            items += [Item(i, half, place, n) for half in (0, 1) for place in range(n)]
        else:
            items.append(Item(i))
    recordings = [clip.recording_group for clip in clips]
    apart = [f"{item.clip} {item.part}" if settings.same_recording else recordings[item.clip] for item in items]
    episodes = draw_episodes(
        [clips[item.clip].labels[0] for item in items],
        apart,
        n_way=settings.n_way,
        n_shot=settings.n_shot,
        n_query=settings.n_query,
        n_episodes=n_episodes,
        seed=seed,
        stream=stream,
    )
    if settings.same_recording:
        of_class = {(clip.labels[0], recording) for clip, recording in zip(clips, recordings, strict=True)}
        kind = "within" if len(of_class) == len(n_clips) else "any"
        episodes = EpisodeIndices(episodes.names, episodes.classes, episodes.support, episodes.query, kind)
    return items, episodes


def head_method(model: keras.Model) -> str | Method:
    """What `few_shot_accuracy.evaluate` compares by as the model's head does."""
    head = model.get_layer("logits")
    if head.distance != "learned":
        return head.distance
    device = model.trainable_variables[0].value.device

    def learned(support: np.ndarray, query: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            prototypes = torch.from_numpy(support).to(device).mean(2)
            pairs = zip(torch.from_numpy(query).to(device), prototypes, strict=True)
            return np.stack([head.compare(x, own).cpu().numpy() for x, own in pairs])

    return learned


def episode_result(model: keras.Model, embeddings: np.ndarray, episodes: EpisodeIndices) -> tuple[FewShotAccuracy, float]:
    """The accuracy by the head's own distance, and the mean cross-entropy of the queries.

    Args:
        model: A network with the head "prototypes", its center at 0.
        embeddings: [n_items, width].
        episodes: Of those items.
    """
    head, method = model.get_layer("logits"), head_method(model)
    total = [0.0, 0]

    def noting(support: np.ndarray, query: np.ndarray) -> np.ndarray:
        scores = (METHODS[method] if isinstance(method, str) else method)(support, query)
        logits = scores  # a softmax does not mind what all classes of a query have in common
        if head.distance != "learned":
            logits = head.scale * scores
        if head.distance == "cosine":
            logits = logits / np.linalg.norm(query, axis=-1, keepdims=True)
        n_way = logits.shape[2]
        truth = np.repeat(np.arange(n_way), logits.shape[1] // n_way)[None, :, None]
        log_p = logits - logsumexp(logits, axis=2, keepdims=True)
        total[0] -= float(np.take_along_axis(log_p, truth, axis=2).sum(dtype=np.float64))
        total[1] += log_p[..., 0].size
        return scores

    noting.__name__ = head.distance
    if head.distance == "euclidean":
        embeddings = embeddings - embeddings.mean(axis=0)  # moves no distance, and float32 keeps more of it
    result = few_shot_accuracy(embeddings, episodes, noting)
    return result, total[0] / total[1]


def episodic_validation(
    model: keras.Model, waveforms: Waveforms, spec: schema.FrontEnd, settings: schema.Episodes, seed: int
) -> Callable[[], dict[str, float]]:
    """A function that gives the columns `val_...` of history.csv for the model as it stands.

    Its episodes are the same every time.
    """
    items, episodes = draw_items(waveforms.clips, settings, settings.n_val, seed, Stream.VALIDATION_EPISODES)
    embedder = Embedder(model, spec)

    def validate() -> dict[str, float]:
        result, loss = episode_result(model, embedder.items(waveforms, items), episodes)
        called = result.precision_recall_f1
        return {
            "val_loss": loss,
            "val_acc": result.accuracy,
            **{f"val_{name}": value for name, value in called.macro.items()},
            **accuracy_columns("val", result.names, called.recall.tolist()),
        }

    return validate


def held_out_accuracies(
    model: keras.Model, waveforms: Waveforms, spec: schema.FrontEnd, settings: schema.Episodes, seed: int
) -> tuple[list[FewShotAccuracy], float]:
    """Accuracy over `n_test` episodes: by the head's own distance, then by other ways on the same embeddings.

    Returns:
        The results, and the cross-entropy of the first.
    """
    items, episodes = draw_items(waveforms.clips, settings, settings.n_test, seed, Stream.TEST_EPISODES)
    embeddings = Embedder(model, spec).items(waveforms, items)
    base_mean = keras.ops.convert_to_numpy(model.get_layer("logits").prototypes).mean(0)
    own, loss = episode_result(model, embeddings, episodes)
    names = [name for name in ("euclidean", "cosine", "simpleshot", "logistic_regression") if name != own.method]
    return [own, *(few_shot_accuracy(embeddings, episodes, name, base_mean=base_mean) for name in names)], loss


def set_prototypes(
    model: keras.Model, weights: Weights, waveforms: Waveforms, spec: schema.FrontEnd, classes: Sequence[str]
) -> Weights:
    """The weights, the head's prototypes being the mean embedding of the clips of each class under these weights.

    Args:
        model: The network, holding `weights`; it is left as it is.
        weights: By variable path.
        waveforms: The training clips.
        spec: Front-end of the network.
        classes: Names in the order of the prototypes.
    """
    embedder = Embedder(model, spec)
    embeddings = [
        embedder.mean(embedder.rule.cut(waveforms[i]))
        for i in track(range(len(waveforms)), "embedding the training clips", unit="clip")
    ]
    by_class: dict[str, list[np.ndarray]] = {name: [] for name in classes}
    for clip, embedding in zip(waveforms.clips, embeddings, strict=True):
        by_class[clip.labels[0]].append(embedding)
    prototypes = np.stack([np.mean(own, axis=0) for own in by_class.values()]).astype(np.float32)
    return {**weights, model.get_layer("logits").prototypes.path: prototypes}
