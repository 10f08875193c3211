"""Size of the HTML report on many images, time to make it, and time until a browser shows it."""

import argparse
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
from _common import print_machine
from scipy.ndimage import gaussian_filter

from skanomaly.base import Verdict
from skanomaly.evaluation._report import write_report
from skanomaly.evaluation._rows import COLUMNS, row_of
from skanomaly.evaluation._thumbnails import bytes_per_image, thumbnail
from skanomaly.thresholds import Calibration

N_DIFFERENT = 100  # pictures are repeated, which no browser notices
SCALE = {"level": 1.0, "span": 1.0}


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--n-images", type=int, default=5000)
    options.add_argument("--side", type=int, default=512, help="height and width of the images")
    options.add_argument("--out", type=Path, help="folder in which the page is kept")
    options = options.parse_args()
    print_machine()
    for name, sigma in (("noise", 0), ("texture", 1.5), ("smooth", 8)):
        with TemporaryDirectory() as folder:
            measure(name, sigma, options, options.out or Path(folder))


def measure(name, sigma, options, folder):
    """Print the size and the times of the page of images of one kind."""
    rng = np.random.default_rng(0)
    samples, n_bytes = [sample(rng, sigma, options.side) for _ in range(N_DIFFERENT)], bytes_per_image(options.n_images)
    start = time.perf_counter()
    pictures = [thumbnail(image, verdict, SCALE, n_bytes) for image, verdict in samples]
    per_image = 1e3 * (time.perf_counter() - start) / N_DIFFERENT
    scores = rng.normal(-0.7, 0.15, options.n_images)
    records = []
    for i, score in enumerate(scores):
        verdict = Verdict(float(score), 1 - 2 * int(score < -1), 0.5, None, None, [])
        row = row_of(f"/data/line 1/2026-11-26/part_{i:06d}.png", verdict, -1.0, ("", ""))
        records.append(dict(zip(COLUMNS, row, strict=True)) | pictures[i % N_DIFFERENT])
    calibration = Calibration(rng.normal(0.7, 0.15, 300), peaks=rng.normal(0.7, 0.15, 300))
    detector = SimpleNamespace(calibration_=calibration, offset_=-1.0, false_alarm_rate=0.05, pixel_threshold_=1.0)
    page = folder / f"{name}.html"
    start = time.perf_counter()
    write_report(page, records, detector)
    written = time.perf_counter() - start
    print(
        f"{name:8}: {options.n_images} images, page of {page.stat().st_size / 1e6:.1f} MB; pictures {per_image:.0f} ms "
        f"per image, page written in {written:.1f} s{in_browser(page)}",
        flush=True,
    )


def sample(rng, sigma, side):
    """Return a random image, and a verdict on it with a random map with one defect."""
    image = gaussian_filter(rng.random((side, side, 3)), (sigma, sigma, 0)) if sigma else rng.random((side, side, 3))
    image = (image - image.min()) / np.ptp(image)
    score_map = 0.6 + 4 * gaussian_filter(rng.normal(size=(side, side)), side / 30)
    row, column = rng.integers(side, size=2)
    score_map[row : row + side // 10, column : column + side // 10] += 1
    return image, Verdict(0.0, 1, 0.5, score_map, None, [])


def in_browser(page):
    """Return how long Chromium takes until the first images are there and a filter has worked, as text."""
    driver_path = shutil.which("chromedriver")
    if not driver_path:
        return ""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"):
        options.add_argument(option)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    try:
        start = time.perf_counter()
        driver.get(page.resolve().as_uri())
        while not driver.execute_script("return document.querySelector('.card canvas')?.width"):
            time.sleep(0.02)
        shown = time.perf_counter() - start
        start = time.perf_counter()
        driver.find_element("css selector", "input[value=flagged]").click()
        driver.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0]))")
        return f"; in Chromium after {shown:.1f} s, filtered in {time.perf_counter() - start:.2f} s"
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
