"""Time to score one image, split into backbone and head, with a 10 % coreset of 80 images of screws."""

import time

import numpy as np
from _common import parser, print_machine

from skanomaly import PatchCore, PretrainedPatchFeatures
from skanomaly.datasets import load_mvtec


def median_ms(function, rounds=40):
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * np.median(times[5:])


def main():
    options = parser(__doc__).parse_args()
    print_machine()
    data = load_mvtec(options.data / "mvtec_screw")
    detector = PatchCore(PretrainedPatchFeatures(batch_size=1), random_state=0, false_alarm_rate=None)
    detector.fit(data.X_train[:80])
    one, sixteen = data.X_test[:1], data.X_test[:16]
    grid = detector.features_.transform(one)
    batched = PretrainedPatchFeatures(batch_size=16).fit(one)
    backbone = median_ms(lambda: detector.features_.transform(one))
    best = median_ms(lambda: batched.transform(sixteen), rounds=12) / 16
    head = median_ms(lambda: detector.scorer_._score(grid))
    render = median_ms(lambda: detector._render(grid[0, ..., 0], (448, 448)))
    whole = median_ms(lambda: list(detector.iter_scores_and_maps(one, size=(448, 448))))
    print(f"bank {detector.scorer_.bank_.shape}")
    print(f"decode + backbone, one image      {backbone:7.2f} ms")
    print(f"decode + backbone, batch of 16    {best:7.2f} ms per image")
    print(f"head, one image                   {head:7.2f} ms   {head / min(best, backbone):.2f} of the best backbone")
    print(f"map at 448 x 448                  {render:7.2f} ms")
    print(f"score and map, one after another  {whole:7.2f} ms")


if __name__ == "__main__":
    main()
