"""False-alarm rate of PatchCore on fresh normal images, compared with the conformal rule.

For every seed, 80 training images and 120 fresh images are drawn from the 320 normal training images of MVTec's screw.
The interval would contain 95 % of the means over all seeds if the calibration scores were exchangeable with fresh ones
(beta-binomial, independent seeds).
"""

import warnings

import numpy as np
from _common import RecalledFeatures, parser, print_machine
from scipy.stats import betabinom

from skanomaly import Augmented, PatchCore
from skanomaly.datasets import load_mvtec
from skanomaly.exceptions import CalibrationWarning
from skanomaly.thresholds import expected_false_alarm_rate

N_TRAIN, N_FRESH = 80, 120
ALPHAS = (0.05, 0.2)


def observed_rates(paths, features, size, sigma, calibration, seed):
    """Return, for each alpha, the share of fresh images flagged and the share with any masked pixel."""
    order = np.random.default_rng(seed).permutation(len(paths))
    train, fresh = paths[order[:N_TRAIN]], paths[order[N_TRAIN : N_TRAIN + N_FRESH]]
    name = "coreset_ratio" if size <= 1 else "coreset_size"
    detector = PatchCore(features, **{name: size}, sigma=sigma, calibration=calibration, random_state=seed).fit(train)
    scored = [(-score, np.nanmax(score_map)) for score, score_map in detector.iter_scores_and_maps(fresh)]
    scores, peaks = np.array(scored).T
    rates = []
    for alpha in ALPHAS:
        detector.set_params(false_alarm_rate=alpha)
        rates += [(scores > -detector.offset_).mean(), (peaks > detector.pixel_threshold_).mean()]
    return rates, detector.calibration_.n


def interval(n, alpha, n_seeds, draws=20_000):
    """Return the central 95 % interval of the mean rate over the seeds."""
    exceeding = round(expected_false_alarm_rate(n, alpha) * (n + 1))
    counts = betabinom(N_FRESH, exceeding, n + 1 - exceeding).rvs((draws, n_seeds), random_state=0)
    return np.quantile(counts.mean(axis=1) / N_FRESH, [0.025, 0.975])


def main():
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=40)
    options.add_argument("--sizes", type=float, nargs="+", default=[2500], help="patches in a bank, or their share")
    options.add_argument("--rotations", type=int, default=1, help="orientations of each training image")
    options.add_argument("--calibrations", nargs="+", default=["loo"])
    options.add_argument("--sigma", type=float, default=2.0, help="of the smoothing of maps")
    options.add_argument("--image-size", type=int, default=320)
    options = options.parse_args()
    warnings.simplefilter("ignore", CalibrationWarning)
    print_machine()
    paths = load_mvtec(options.data / "mvtec_screw").X_train
    features = Augmented(RecalledFeatures(image_size=options.image_size), rotations=options.rotations)
    print(f"{options.image_size} px, {options.rotations} rotations, {options.seeds} seeds")
    print(f"{N_TRAIN} training and {N_FRESH} fresh images each")
    print("calibration   size  alpha  expected  95 % interval   flagged   any masked pixel")
    for calibration in options.calibrations:
        for size in options.sizes:
            size = size if size <= 1 else int(size)
            results = [
                observed_rates(paths, features, size, options.sigma, calibration, seed) for seed in range(options.seeds)
            ]
            rates = np.mean([rate for rate, _ in results], axis=0).reshape(len(ALPHAS), 2)
            n = results[0][1]
            for alpha, (flagged, masked) in zip(ALPHAS, rates, strict=True):
                low, high = interval(n, alpha, options.seeds)
                expected = expected_false_alarm_rate(n, alpha)
                print(
                    f"{calibration:<12} {size:5g}  {alpha:5.2f}  {expected:8.3f}  {low:.3f} - {high:.3f}"
                    f"   {flagged:7.3f}   {masked:7.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
