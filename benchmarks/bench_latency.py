"""Time to score one image with PatchCore fitted on 80 images of screws, split into backbone and head."""

import time

import numpy as np
from _common import PAPER, parser, print_machine
from sklearn.base import clone

from skanomaly import PatchCore, PretrainedPatchFeatures
from skanomaly.datasets import load_mvtec


def median_ms(function, rounds=40):
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * np.median(times[5:])


SETTINGS = {  # name: (image size, parameters)
    "default, 320 px": (320, {}),
    "5,000 patches, 320 px": (320, {"coreset_size": 5000}),
    "paper, 224 px": (224, PAPER),
}


def main():
    options = parser(__doc__).parse_args()
    print_machine()
    data = load_mvtec(options.data / "mvtec_screw")
    for name, (size, parameters) in SETTINGS.items():
        print(name)
        measure(PretrainedPatchFeatures(image_size=size, batch_size=1), parameters, data)


def measure(features, parameters, data):
    """Print the times of PatchCore fitted on 80 images."""
    detector = PatchCore(features, **parameters, random_state=0, false_alarm_rate=None)
    detector.fit(data.X_train[:80])
    one, sixteen = data.X_test[:1], data.X_test[:16]
    Z = detector._embed(detector.features_.check_samples(one))
    sample, grid = detector.features_.check_samples(one)[0], detector._score(Z)[1][0]
    batched = clone(features).set_params(batch_size=16).fit(one)
    backbone = median_ms(lambda: detector.features_.transform_layers(one))
    best = median_ms(lambda: batched.transform_layers(sixteen), rounds=12) / 16
    head = median_ms(lambda: detector._score(Z))
    render = median_ms(lambda: detector._render(grid, sample))
    whole = median_ms(lambda: list(detector.iter_scores_and_maps(one)))
    print(f"banks {[scorer.bank_.shape for scorer in detector.scorers_]}")
    print(f"decode + backbone, one image      {backbone:7.2f} ms")
    print(f"decode + backbone, batch of 16    {best:7.2f} ms per image")
    print(f"head, one image                   {head:7.2f} ms   {head / min(best, backbone):.2f} of the best backbone")
    print(f"map at 448 x 448                  {render:7.2f} ms")
    print(f"score and map, one after another  {whole:7.2f} ms")


if __name__ == "__main__":
    main()
