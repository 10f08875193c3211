"""Cost of AnoGAN's search: CPU seconds per image by the number of images searched at a time, FLOPs, and memory.

The networks are untrained, since the cost does not depend on the weights; width 64 is that of the DCGAN paper.
Multiplications and additions of convolutions and matrix products count as one operation each.
"""

import itertools
import resource
import time

import numpy as np
from _common import parser, print_machine
from torch.utils.flop_counter import FlopCounterMode

from skanomaly import AnoGAN, Pixels
from skanomaly.networks import DCGAN

_TIMED_STEPS = 10


def anogan(side, n_steps, chunk_size=16, *, width=64, n_channels=3):
    """Return an untrained AnoGAN for images of a side."""
    detector = AnoGAN(
        Pixels(side),
        DCGAN(width=width),
        n_steps=n_steps,
        chunk_size=chunk_size,
        max_epochs=0,
        false_alarm_rate=None,
        device="cpu",
        random_state=0,
    )
    return detector.fit(images(2, side, n_channels))


def images(n, side, n_channels=3):
    """Return noise (n, side, side, n_channels)."""
    return np.random.default_rng(0).random((n, side, side, n_channels), dtype=np.float32)


def flops_per_image(detector, X):
    """Return the floating-point operations of scoring an image, of a detector that is fitted."""
    detector.score_samples(X[:1])  # builds the networks
    with FlopCounterMode(display=False) as counter:
        detector.score_samples(X)
    return counter.get_total_flops() / len(X)


def seconds_per_image(detector, X):
    """Return the CPU seconds of scoring an image, the least of three trials."""
    detector.score_samples(X[:1])
    trials = []
    for _ in range(3):
        start = time.process_time()
        detector.score_samples(X)
        trials.append(time.process_time() - start)
    return min(trials) / len(X)


def anogan_cost(side=64, n_steps=500, chunk_size=16, **options):
    """Return (FLOPs, CPU seconds) of scoring an image with AnoGAN, the seconds extrapolated from 10 steps.

    Parameters
    ----------
    side : int, default=64
        Side of the images, in pixels.
    n_steps : int, default=500
        Number of steps of the search.
    chunk_size : int, default=16
        Number of images searched at a time, which is also the number of images that are scored.
    **options
        Options of `anogan`.

    Returns
    -------
    flops : float
        Floating-point operations per image.
    seconds : float
        CPU seconds per image.
    """
    X = images(chunk_size, side, options.get("n_channels", 3))
    one, two = (flops_per_image(anogan(side, n, chunk_size, **options), X) for n in (1, 2))
    counted = one + (n_steps - 1) * (two - one)
    timed = anogan(side, _TIMED_STEPS, chunk_size, **options)
    return counted, seconds_per_image(timed, X) * n_steps / _TIMED_STEPS


def main():
    options = parser(__doc__)
    options.add_argument("--sides", nargs="+", type=int, default=[32, 64])
    options.add_argument("--widths", nargs="+", type=int, default=[16, 64])
    options.add_argument("--chunks", nargs="+", type=int, default=[1, 16, 64])
    options.add_argument("--n-steps", type=int, default=500)
    options = options.parse_args()
    print_machine()
    print("side  width  at a time  GFLOP per image  CPU s per image  times faster  peak MiB", flush=True)
    for side, width in itertools.product(options.sides, options.widths):
        first = None
        for chunk in options.chunks:
            flops, seconds = anogan_cost(side, options.n_steps, chunk, width=width)
            first = first or seconds
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{side:4}{width:7}{chunk:11}{flops / 1e9:17.1f}{seconds:17.2f}{first / seconds:14.1f}{peak:10.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
