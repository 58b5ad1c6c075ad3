"""Episodes against plain PyTorch and plain loops: one thread, CPU time, both sides in turn.

    python benchmarks/episodes.py [--rounds 5] [--only training|naming]

Training: one step is one episode, N_WAY classes with one support clip and one query each, on SHAPE features; ours is
the objective of training/episodic/objective.py through the lowered network, the peers are in plain_networks.py (goal:
at least as many episodes a second). Naming: the queries of N_EPISODES episodes once all clips are embedded; ours names
them in blocks, the peer is a loop over episodes as papers publish it, with NumPy and scikit-learn, of which N_LOOPED
are run and counted N_EPISODES / N_LOOPED times (goal: under 5 s for each method).
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import plain_networks
import torch
import torch.nn.functional as F
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from birdnet_fs import models, schema
from birdnet_fs.data.episodes import EpisodeIndices, draw_episodes
from birdnet_fs.metrics.few_shot import EpisodeScores, by_embedding, by_pairs, combine_standardized, summarize
from birdnet_fs.models.lowering.lower import lower
from birdnet_fs.training.episodic.objective import episodic_objective

N_WAY, SHAPE = 5, (128, 128)
COSINE_SCALE = 10.0
N_EPISODES, N_LOOPED = 10_000, 200
MOST_APART = 0.05  # of two accuracies, one of N_LOOPED episodes
N_CLASSES, N_RECORDINGS, WIDTH = 20, 20, 192  # of the clips that are named

Logits = Callable[[nn.Module, Tensor, Tensor], Tensor]  # network, queries and prototypes, one row each -> [n, n_way]


def cosines(network: nn.Module, queries: Tensor, prototypes: Tensor) -> Tensor:
    """Cosines of each query with each prototype, scaled."""
    return COSINE_SCALE * F.normalize(queries) @ F.normalize(prototypes).T


def squares(network: nn.Module, queries: Tensor, prototypes: Tensor) -> Tensor:
    """Minus the squared distances."""
    return -torch.cdist(queries, prototypes).square()


def learned(network: nn.Module, queries: Tensor, prototypes: Tensor) -> Tensor:
    """Minus what the distance network says of each pair."""
    n = len(prototypes)
    pairs = torch.cat([queries.repeat_interleave(n, 0), prototypes.repeat(len(queries), 1)], 1)
    return -network.distance(pairs).reshape(-1, n)


# name -> its peer, what embeds with it, how it compares; and how ours does
NETWORKS: dict[str, tuple[Callable[[], nn.Module], str, Logits, str]] = {
    "prototypical/v1": (plain_networks.PrototypicalV1, "forward", squares, "euclidean"),
    "prototypical/v2": (plain_networks.PrototypicalV2, "forward", learned, "learned"),
    "cnn/small": (lambda: plain_networks.Cnn(1), "embedding", cosines, "cosine"),
}


def step_of(parameters: list[Tensor], loss: Callable[[], Tensor]) -> Callable[[], None]:
    """Forward, loss, backward and AdamW, as one call."""
    optimizer = torch.optim.AdamW(parameters, 1e-4)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step


def in_turn(sides: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each side, one round after the other; the first round is warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, call in sides.items():
            start = time.process_time()
            call()
            seconds[name].append(time.process_time() - start)
    return {name: times[1:] for name, times in seconds.items()}


def training(rounds: int) -> None:
    """Print episodes a second and the ratio for each network."""
    print(f"{'training, 5-way 1-shot 1-query':32s} {'torch, 1/s':>10s} {'ours, 1/s':>10s} {'ratio':>6s}")
    settings = schema.Episodes(n_way=N_WAY, n_shot=1, n_query=1)
    for name, (make, embeds, logits, distance) in NETWORKS.items():
        peer = make().train()
        embed = getattr(peer, embeds)
        model = models.build(
            name,
            input_shape=(*SHAPE, 1),
            n_classes=N_WAY,
            dropout=0.0,
            head="prototypes",
            distance=distance,
            logit_scale=COSINE_SCALE if distance == "cosine" else 1.0,
        )
        prototypes = model.get_layer("logits").prototypes
        ours = [v.value for v in model.trainable_variables if v is not prototypes]
        theirs = [p for name, p in peer.named_parameters() if not name.startswith("logits.")]
        counts = [sum(p.numel() for p in side) for side in (theirs, ours)]
        if counts[0] != counts[1]:
            raise RuntimeError(f"{name}: the peer has {counts[0]} trainable values, ours {counts[1]}")
        objective = episodic_objective(model, settings)
        forward = lower(objective.network)
        x = torch.randn(2 * N_WAY, *SHAPE, 1)  # class by class, the support clip first
        nchw = x.permute(0, 3, 1, 2).contiguous()
        targets = torch.eye(N_WAY).repeat_interleave(2, 0)
        truth = torch.arange(N_WAY)

        def plain(network=peer, embed=embed, compare=logits, x=nchw, truth=truth) -> Tensor:
            z = embed(x).reshape(N_WAY, 2, -1)
            return F.cross_entropy(compare(network, z[:, 1], z[:, 0]), truth)

        def lowered(forward=forward, loss=objective.loss, x=x, targets=targets) -> Tensor:
            return loss(forward(x, training=True), targets, 0.0)

        seconds = in_turn({"torch": step_of(theirs, plain), "ours": step_of(ours, lowered)}, rounds)
        rates = [1 / statistics.median(times) for times in seconds.values()]
        ratio = statistics.median(a / b for a, b in zip(seconds["torch"], seconds["ours"], strict=True))
        print(f"{name:32s} {rates[0]:10.2f} {rates[1]:10.2f} {ratio:6.2f}", flush=True)


def looped(x: np.ndarray, alike: np.ndarray, episodes: EpisodeIndices, method: str) -> float:
    """Accuracy over the first N_LOOPED episodes, one by one."""
    right = []
    for support, query in zip(episodes.support[:N_LOOPED], episodes.query[:N_LOOPED], strict=True):
        n_way, n_query = query.shape
        named = NAMED[method](x, alike, support, query.ravel())
        right.append(np.mean(named == np.repeat(np.arange(n_way), n_query)))
    return float(np.mean(right))


def by_distance(x: np.ndarray, alike: np.ndarray, support: np.ndarray, query: np.ndarray) -> np.ndarray:
    """The nearest mean."""
    return cdist(x[query], x[support].mean(1)).argmin(1)


def cosine_scores(x: np.ndarray, support: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Cosines with the means."""
    prototypes, queries = x[support].mean(1), x[query]
    prototypes = prototypes / np.linalg.norm(prototypes, axis=1, keepdims=True)
    return queries / np.linalg.norm(queries, axis=1, keepdims=True) @ prototypes.T


def pair_scores(alike: np.ndarray, support: np.ndarray, query: np.ndarray) -> np.ndarray:
    """The support clip most like the query."""
    return alike[query[:, None, None], support].max(2)


def by_probe(x: np.ndarray, alike: np.ndarray, support: np.ndarray, query: np.ndarray) -> np.ndarray:
    """scikit-learn's logistic regression."""
    clips = x[support.ravel()]
    clips = clips / np.linalg.norm(clips, axis=1, keepdims=True)
    probe = LogisticRegression(max_iter=1000).fit(clips, np.repeat(np.arange(len(support)), support.shape[1]))
    return probe.predict(x[query] / np.linalg.norm(x[query], axis=1, keepdims=True))


def standard(x: np.ndarray) -> np.ndarray:
    """Mean 0 and deviation 1 along the classes."""
    return (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)


NAMED: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "euclidean": by_distance,
    "cosine": lambda x, alike, s, q: cosine_scores(x, s, q).argmax(1),
    "logistic_regression": by_probe,
    "correlation": lambda x, alike, s, q: pair_scores(alike, s, q).argmax(1),
    "cosine+correlation": lambda x, alike, s, q: (
        standard(cosine_scores(x, s, q)) + standard(pair_scores(alike, s, q))
    ).argmax(1),
}


def naming() -> None:
    """Print the seconds for N_EPISODES episodes of each method, and the ratio."""
    print(f"{f'{N_EPISODES:,} episodes, {N_WAY}-way':32s} {'loop, s':>10s} {'ours, s':>10s} {'ratio':>6s}")
    rng = np.random.default_rng(0)
    n = N_CLASSES * N_RECORDINGS
    labels = [f"{i // N_RECORDINGS}" for i in range(n)]
    centers = rng.normal(size=(N_CLASSES, 1, WIDTH))
    x = (0.3 * centers + rng.normal(size=(N_CLASSES, N_RECORDINGS, WIDTH))).reshape(n, WIDTH).astype(np.float32)
    alike = (x @ x.T).astype(np.float32)
    for n_shot in (1, 5):
        settings = {"n_way": N_WAY, "n_shot": n_shot, "n_query": 5, "n_episodes": N_EPISODES, "seed": 0}
        start = time.process_time()
        episodes = draw_episodes(labels, [str(i) for i in range(n)], **settings)
        print(f"{f'{n_shot}-shot, drawing them':32s} {'':10s} {time.process_time() - start:10.2f}")
        pairs = by_pairs("correlation", alike, episodes)
        cosine = by_embedding(x, episodes, "cosine")
        scores: list[EpisodeScores] = [by_embedding(x, episodes, "euclidean"), cosine]
        scores += [by_embedding(x, episodes, "logistic_regression"), pairs, combine_standardized(cosine, pairs)]
        for score in scores:
            start = time.process_time()
            accuracy = summarize(score).accuracy
            middle = time.process_time()
            if abs(looped(x, alike, episodes, score.method) - accuracy) > MOST_APART:
                raise RuntimeError(f"{score.method}: the loop names other classes than ours")
            theirs = (time.process_time() - middle) * N_EPISODES / N_LOOPED
            ours = middle - start
            print(
                f"{f'{n_shot}-shot, {score.method}':32s} {theirs:10.1f} {ours:10.2f} {theirs / ours:6.1f}", flush=True
            )


def main() -> None:
    """Print one line for each network and method."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("training", "naming"))
    settings = parser.parse_args()
    torch.set_num_threads(1)
    if settings.only != "naming":
        training(settings.rounds)
    if settings.only != "training":
        naming()


if __name__ == "__main__":
    main()
