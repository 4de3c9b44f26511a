"""Time of the matrix of LPIPS distances from 60 pictures to 200 training pictures at 256 pixels, two ways.

pairwise   `lpips.LPIPS.forward` once per pair, as the package is used. Timed on some pairs and scaled to all of them;
           the output says so.
embedding  one forward pass per picture, then one matrix product; once with everything computed, once with the
           embeddings of the training pictures already there (they are made once per project).

The pictures are smooth random colour fields with noise of differing strength and some near-copies, so that distances of
all sizes occur. Without --weights the trunk is random: the time and the arithmetic are the same.

Run: python benchmarks/lpips_neighbours.py [--weights FILE] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lorabench.judges.lpips_embedding import LpipsEncoder
from lorabench.metrics.memorisation import squared_distances


def pictures(n: int, rng: np.random.Generator) -> list[np.ndarray]:
    made = []
    for _ in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (rng.integers(3, 20),) * 2 + (3,), dtype=np.uint8))
        field = np.asarray(coarse.resize((256, 256), Image.Resampling.BICUBIC), dtype=np.float64)
        made.append((field + rng.normal(0, rng.uniform(0, 20), field.shape)).clip(0, 255).astype(np.uint8))
    return made


def random_trunk(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    shapes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    tensors = {}
    for index, (out, into, side) in shapes.items():
        kernel = rng.normal(size=(out, into, side, side), scale=(2 / (into * side * side)) ** 0.5)
        tensors[f"features.{index}.weight"] = torch.tensor(kernel, dtype=torch.float32)
        tensors[f"features.{index}.bias"] = torch.zeros(out)
    torch.save(tensors, folder / "trunk.pth")
    return folder / "trunk.pth"


def pairwise_seconds(encoder: LpipsEncoder, pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, np.ndarray]:
    """Seconds per pair of the package's own loop, and its distances."""

    def tensor(picture: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1

    with torch.no_grad():
        encoder._model(tensor(pairs[0][0]), tensor(pairs[0][1]))
        start = time.perf_counter()
        values = [float(encoder._model(tensor(a), tensor(b))) for a, b in pairs]
    return (time.perf_counter() - start) / len(pairs), np.array(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--training", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=300, help="pairs of the loop that are really timed")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    training, queries = pictures(options.training, rng), pictures(options.queries, rng)
    queries[0] = training[0].copy()
    queries[1] = training[1].copy()
    queries[1][:8, :8] ^= 4

    with tempfile.TemporaryDirectory() as folder:
        encoder = LpipsEncoder("alex", options.weights or random_trunk(Path(folder)), device="cpu")
    encoder.embed(queries[:2])

    start = time.perf_counter()
    training_vectors = encoder.embed(training)
    training_seconds = time.perf_counter() - start
    start = time.perf_counter()
    query_vectors = encoder.embed(queries)
    query_seconds = time.perf_counter() - start
    start = time.perf_counter()
    found = squared_distances(query_vectors, training_vectors, centre=training_vectors.mean(axis=0))
    matrix_seconds = time.perf_counter() - start

    n_pairs = options.queries * options.training
    chosen = sorted({0, options.training + 1, *rng.choice(n_pairs, size=min(options.pairs, n_pairs), replace=False)})
    places = [divmod(int(pair), options.training) for pair in chosen]
    per_pair, expected = pairwise_seconds(encoder, [(queries[i], training[j]) for i, j in places])
    errors = np.abs(np.array([found[i, j] for i, j in places]) - expected)

    loop = per_pair * n_pairs
    cached, uncached = query_seconds + matrix_seconds, training_seconds + query_seconds + matrix_seconds
    result = {
        "queries": options.queries,
        "training": options.training,
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "weights": "given" if options.weights else "random",
        "loop_pairs_timed": len(places),
        "loop_seconds_per_pair": per_pair,
        "loop_seconds_extrapolated_to_all_pairs": loop,
        "embedding_seconds_per_picture": query_seconds / options.queries,
        "matrix_seconds": matrix_seconds,
        "seconds_uncached": uncached,
        "seconds_cached_training": cached,
        "ratio_uncached": loop / uncached,
        "ratio_cached_training": loop / cached,
        "largest_error": float(errors.max()),
        "largest_distance": float(expected.max()),
        "error_of_identical_pair": float(found[0, 0]),
    }
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
