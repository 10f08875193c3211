"""False-alarm rates of ConformalDetector at 1, 5 and 10 %, on fresh rows and images that are drawn anew for each seed.

"Split" must keep its promise exactly: the mean over the seeds lies in the interval (95 %, beta-binomial, independent
seeds) in 19 of 20 cases. "cv" compares fresh samples, which a model of all training samples scores, with calibration
scores of models of nine tenths of them; it is approximate, and only rates above the interval matter.
"Label" is the promise of `predict`, "any pixel" that of `anomaly_mask`, and "either" the share of fresh normal images
that have the label -1 or any pixel in the mask, for which nothing is promised.
"""

import warnings

import numpy as np
from _common import parser, print_machine
from scipy import ndimage
from scipy.stats import betabinom
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from skanomaly import ConformalDetector, GaussianScorer, KNNScorer, PatchFeatures
from skanomaly.exceptions import CalibrationWarning
from skanomaly.thresholds import expected_false_alarm_rate

ALPHAS = 0.01, 0.05, 0.1
N_TRAIN, N_FRESH, SIDE = 600, 300, 32


def draw_rows(rng, n):
    """Return rows of heavy-tailed columns that depend on each other."""
    return rng.standard_t(4, size=(n, 6)) @ np.tril(np.ones((6, 6)))


def draw_images(rng, n):
    """Return smooth random textures of varying brightness, as uint8."""
    noise = ndimage.gaussian_filter(rng.normal(size=(n, SIDE, SIDE)), (0, 1, 1), mode="wrap")
    return np.clip(128 + 120 * noise + rng.normal(0, 15, size=(n, 1, 1)), 0, 255).astype(np.uint8)


MODELS = {  # name: (what draws samples, estimator)
    "rows, KNNScorer": (draw_rows, make_pipeline(StandardScaler(), KNNScorer(3))),
    "rows, IsolationForest": (draw_rows, IsolationForest(n_estimators=50, random_state=0)),
    "raw patches, GaussianScorer": (draw_images, make_pipeline(PatchFeatures(image_size=SIDE), GaussianScorer())),
}


def observed(draw, estimator, calibration, seed):
    """Return (n of the calibration, shares (3, 3)): flagged, with any pixel, either, at each of the rates."""
    rng = np.random.default_rng(seed)
    train, fresh = draw(rng, N_TRAIN), draw(rng, N_FRESH)
    detector = ConformalDetector(estimator, calibration=calibration, random_state=seed).fit(train)
    if hasattr(detector, "anomaly_map"):
        scored = [(-score, np.nanmax(score_map)) for score, score_map in detector.iter_scores_and_maps(fresh)]
        scores, peaks = np.array(scored).T
    else:
        scores, peaks = -detector.score_samples(fresh), None
    shares = []
    for alpha in ALPHAS:
        detector.set_params(false_alarm_rate=alpha)
        flagged = scores > -detector.offset_
        masked = np.full(len(scores), np.nan) if peaks is None else peaks > detector.pixel_threshold_
        either = masked if peaks is None else flagged | masked
        shares.append([flagged.mean(), masked.mean(), either.mean()])
    return detector.calibration_.n, np.array(shares)


def interval(n, alpha, n_seeds, draws=20_000):
    """Return the expected rate, and the central 95 % interval of its mean over the seeds."""
    expected = expected_false_alarm_rate(n, alpha)
    exceeding = round(expected * (n + 1))
    counts = betabinom(N_FRESH, exceeding, n + 1 - exceeding).rvs((draws, n_seeds), random_state=0)
    return expected, *np.quantile(counts.mean(axis=1) / N_FRESH, [0.025, 0.975])


def main():
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=50)
    options = options.parse_args()
    warnings.simplefilter("ignore", CalibrationWarning)
    print_machine()
    print(f"{options.seeds} seeds, {N_TRAIN} training and {N_FRESH} fresh samples each\n")
    print("| samples, estimator | calibration | n | asked | expected | 95 % interval | label | any pixel | either |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, (draw, estimator) in MODELS.items():
        for calibration in ("split", "cv"):
            seeds = tqdm(range(options.seeds), desc=f"{name}, {calibration}", leave=False)
            n, shares = zip(*(observed(draw, estimator, calibration, seed) for seed in seeds), strict=True)
            for alpha, means in zip(ALPHAS, np.mean(shares, axis=0), strict=True):
                expected, low, high = interval(n[0], alpha, options.seeds)
                cells = " | ".join("-" if np.isnan(value) else f"{value:.4f}" for value in means)
                bounds = f"{expected:.4f} | [{low:.4f}, {high:.4f}]"
                print(f"| {name} | {calibration} | {n[0]} | {alpha} | {bounds} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
