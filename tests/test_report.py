"""The HTML report: what it shows, that nothing in it is executed, and that a run that was stopped still shows all."""

import base64
import io
import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from skanomaly import PatchCore, Pixels, VariationModel, save
from skanomaly.base import Verdict
from skanomaly.evaluation import save_report, score_files
from skanomaly.evaluation._report import _histogram, _template, write_report
from skanomaly.evaluation._thumbnails import Thumbnails, bytes_per_image, thumbnail
from skanomaly.exceptions import ImageReadError, ImageReadWarning
from skanomaly.thresholds import Calibration, Region

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")
NASTY = ['<img src=x onerror="document.title=1">.png', "a'b&c.png", "\u2028.png", "<script>document.title=2<!--.png"]


def images_of(page):
    """Return the data of a page, as a browser would read them."""
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(data)


def pixels_of(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


@pytest.fixture(scope="module")
def detector(small_features, cloth):
    settings = {"combine": "averaged", "n_neighbors": 1, "false_alarm_rate": 0.2}  # so that several images have regions
    return PatchCore(small_features, **settings, random_state=0).fit(cloth.X_train)


@pytest.fixture
def model(detector, tmp_path):
    save(detector, tmp_path / "model.skops")
    return tmp_path / "model.skops"


@pytest.fixture
def files(cloth, tmp_path):
    (tmp_path / "images").mkdir()
    paths = [tmp_path / "images" / f"{i}.png" for i in range(4)]
    for path, image in zip(paths, cloth.X_test[5:9], strict=True):
        Image.fromarray(image).save(path)
    return paths


# Pictures


def verdict_of(score_map, regions=()):
    return Verdict(-1.0, 1, 0.5, np.asarray(score_map, np.float32), None, list(regions))


def test_the_picture_of_a_map_has_the_threshold_in_the_middle():
    level = 3.0
    score_map = np.array([[0.0, 1.5, 2.9, 3.1, 6.0, 27.0, np.nan, 1e9]])
    small = thumbnail(np.zeros((1, 8, 3)), verdict_of(score_map), {"level": level, "span": level}, 1e9)
    (values,) = pixels_of(small["map"]) / 256  # multiples of 4 / 256, and the middle between two
    assert np.abs(values[:6] - score_map[0, :6] / (score_map[0, :6] + level)).max() <= 2 / 256
    np.testing.assert_array_equal(values >= 0.5, score_map[0] > level)
    assert values[6] < 0.01
    assert values[7] > 0.99


def test_a_map_without_threshold_stays_below_the_middle():
    small = thumbnail(np.zeros((1, 3, 1)), verdict_of([[-2, 0, 2]]), {"level": None, "span": None}, 1e9)
    (values,) = pixels_of(small["map"])
    assert list(values) == [2, 86, 126]  # 256 x / (x + 4) for x = 0, 2, 4: 0, 85.3, 128, of which 127 is left


@pytest.mark.parametrize(("n_bytes", "side"), [(48_000, 224), (6_800, 96)])
def test_no_peak_is_lost_in_a_small_map(n_bytes, side):
    score_map = np.zeros((1000, 700))
    score_map[567, 123] = 5
    small = thumbnail(np.zeros((1000, 700, 1)), verdict_of(score_map), {"level": 1.0, "span": 1.0}, n_bytes)
    values = pixels_of(small["map"])
    assert 0.85 * side <= max(values.shape) <= side
    ((row, column),) = np.argwhere(values >= 128)
    assert abs(1000 * (row + 0.5) / values.shape[0] - 567.5) <= 11
    assert abs(700 * (column + 0.5) / values.shape[1] - 123.5) <= 11


def test_pictures_keep_to_their_size(rng):
    noise = rng.random((700, 500, 3))
    for n_bytes in (48_000, 6_800, 2_500):
        data = base64.b64decode(thumbnail(noise, verdict_of([[0]]), {"level": 1.0, "span": 1.0}, n_bytes)["image"])
        assert 0.3 * n_bytes < len(data) <= n_bytes
    flat = pixels_of(thumbnail(noise * 0 + 0.4, verdict_of([[0]]), {"level": 1.0, "span": 1.0}, 48_000)["image"])
    assert flat.shape == (512, 366, 3)
    assert np.abs(flat.astype(int) - 102).max() <= 1
    assert [bytes_per_image(n) for n in (0, 100, 5_000, 10**6)] == [48_000, 48_000, 6_800, 1_500]


def test_regions_are_listed_up_to_a_limit():
    region = Region((1, 2, 3, 5), (1.25, 3.0), 4, 2.0000123, (1, 2), 0.125)
    small = thumbnail(np.zeros((8, 8, 1)), verdict_of(np.zeros((8, 8)), [region] * 40), {"level": 1, "span": 1}, 1e9)
    assert small["regions"] == [[1, 2, 3, 5, 1.2, 3.0, 4, "2", "0.125"]] * 30
    assert small["size"] == (8, 8)


# The page


def test_the_page_says_what_the_detector_says(detector, cloth, tmp_path):
    page = save_report(tmp_path / "new" / "report.html", detector, cloth.X_test, title="A & B").read_text()
    images = images_of(page)
    scores = detector.score_samples(cloth.X_test)
    order = np.argsort(scores, kind="stable")
    assert [image["path"] for image in images] == [f"image {i}" for i in order]
    assert [image["kind"] == "flagged" for image in images] == list(detector.predict(cloth.X_test)[order] == -1)
    assert [image["score"] for image in images] == [f"{score:.4g}" for score in scores[order]]
    assert [image["p"] for image in images] == [f"{p:.3g}" for p in detector.p_values(cloth.X_test)[order]]
    regions = detector.anomaly_regions(cloth.X_test)
    assert [image["n_regions"] for image in images] == [len(regions[i]) for i in order]
    assert [image["regions"][0][:4] for image in images if image["regions"]] == [
        list(regions[i][0].box) for i in order if regions[i]
    ]
    maps = detector.anomaly_map(cloth.X_test)
    for image, i in zip(images, order, strict=True):
        assert (pixels_of(image["map"]) >= 128).any() == (maps[i].max() > detector.pixel_threshold_)
    n_flagged = (detector.predict(cloth.X_test) == -1).sum()
    assert f"<strong>{n_flagged} flagged</strong>" in page
    assert "<title>A &amp; B</title>" in page
    assert f"if the score is below {detector.offset_:.4g}" in page
    assert f"so that no p is below {1 / 13:.3g}" in page


def test_the_page_needs_nothing_else(detector, cloth, tmp_path):
    page = save_report(tmp_path / "report.html", detector, cloth.X_test[:2]).read_text()
    assert "default-src 'none'; img-src data:" in page
    assert re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]*)""", page.split("<script")[0]) == ["data:,"]
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttpRequest", page)


def test_names_are_no_markup(detector, cloth, tmp_path):
    page = save_report(tmp_path / "r.html", detector, cloth.X_test[:4], names=NASTY, title="</title><b>").read_text()
    assert {image["path"] for image in images_of(page)} == set(NASTY)
    assert [text for text in ("<img", "<b>", "\u2028") if text in page] == []
    assert page.count("<script") == page.count("</script>") == 2
    with pytest.raises(ValueError, match="names has 4 values, but there are 3 images"):
        save_report(tmp_path / "r.html", detector, cloth.X_test[:3], names=NASTY)


class Judge:
    """Detector without maps, or with maps that have no threshold."""

    calibration_ = Calibration([1.0, 2.0, 3.0, 4.0])
    features_, offset_, false_alarm_rate = SimpleNamespace(), -4.0, 0.2

    def __init__(self, score_map=None):
        self.score_map = score_map

    def iter_verdicts(self, X):
        for i in range(len(X)):
            yield Verdict(-1.0 - 4 * i, 1 - 2 * (i > 0), 0.2, self.score_map, None, None)


def test_detectors_without_maps_or_thresholds_of_maps(tmp_path):
    page = save_report(tmp_path / "r.html", Judge(), np.zeros((2, 8, 8))).read_text()
    assert [image["map"] for image in images_of(page)] == [None, None]
    assert 'id="blend"' not in page
    page = save_report(tmp_path / "r.html", Judge(np.eye(8)), np.zeros((2, 8, 8))).read_text()
    assert 'id="blend"' in page
    assert "The maps of this detector have no threshold" in page
    assert [image["n_regions"] for image in images_of(page)] == ["", ""]


def test_histogram_by_hand():
    bars = _histogram([-3.0, -1.5, -1.0, -0.9, 0.0, 1.0], -1.0)  # one bin is (1 + 3) / 40 = 0.1 wide
    assert len(bars["counts"]) == 40
    assert (bars["n_below"], bars["highest"], bars["cut"]) == (20, 1, False)
    assert [i for i, count in enumerate(bars["counts"]) if count] == [0, 15, 20, 21, 30, 39]
    bars = _histogram([-1000.0, 0.0], -1.0)  # 5 times the distance from threshold to highest is left below
    assert (bars["first"], bars["cut"], sum(bars["counts"])) == ("-6.1", True, 2)
    assert _histogram([-2.0, -1.5], -1.0)["n_below"] == 40  # all are flagged
    assert sum(_histogram([0.5], 0.5)["counts"]) == 1
    assert _histogram([], 1.0) is None


def test_a_page_of_unreadable_images_only(tmp_path):
    record = {"path": "a.png", "score": "", "error": "ImageReadError: <b>"}
    write_report(tmp_path / "r.html", [record], Judge())
    (image,) = images_of((tmp_path / "r.html").read_text())
    assert (image["kind"], image["error"], image["map"]) == ("unreadable", "ImageReadError: <b>", None)


def luminance(colour):
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def test_contrast_is_that_of_wcag_aa():
    source = _template().environment.loader.get_source(None, "report.css")[0]
    light, dark = (dict(re.findall(r"--(\w[\w-]*): (#\w{6})", block)) for block in source.split(":root {")[1:3])
    assert set(light) == set(dark) >= {"page", "panel", "text", "muted", "line", "focus", "flagged", "passed"}
    pairs = [(text, panel) for text in ("text", "muted", "flagged", "passed") for panel in ("page", "panel")]
    pairs += [("flagged", "flagged-panel"), ("passed", "passed-panel")]
    needed = dict.fromkeys(pairs, 4.5) | {("focus", "page"): 3, ("focus", "panel"): 3, ("line", "page"): 3}
    for colours in (light, dark):
        for pair, least in needed.items():
            high, low = sorted((luminance(colours[name]) for name in pair), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= least, (pair, colours)


# Runs


def test_a_resumed_run_reports_all_images(model, files, tmp_path):
    out, page = tmp_path / "out", tmp_path / "report.html"
    score_files(model, files[:2], out, report=page)
    assert len(images_of(page.read_text())) == 2
    whole = score_files(model, files, out, report=page).read_bytes()
    first = page.read_text()
    assert {image["path"] for image in images_of(first)} == set(map(str, files))
    score_files(model, files[2:], out, report=page)
    assert page.read_text() == first
    assert (out / "scores.csv").read_bytes() == whole
    page.unlink()
    (out / "scores.csv").write_bytes(whole[:-40])  # stopped in the last line
    score_files(model, files, out, report=page)
    assert page.read_text() == first


def test_images_of_12_bits_are_shown_in_their_range(rng, tmp_path):
    images = rng.integers(1000, 3000, (30, 20, 20)).astype(np.uint16)
    detector = VariationModel(Pixels(16, data_range=4095)).fit(images)
    save(detector, tmp_path / "model.skops")
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    page = tmp_path / "r.html"
    score_files(tmp_path / "model.skops", [tmp_path / "a.png"], tmp_path / "out", report=page)
    from_file = pixels_of(images_of(page.read_text())[0]["image"])
    assert from_file.mean() == pytest.approx(images[0].mean() / 4095 * 255, abs=2)
    save_report(page, detector, images[:1])
    np.testing.assert_array_equal(pixels_of(images_of(page.read_text())[0]["image"]), from_file)


def test_images_that_were_scored_before_are_scored_for_the_report(model, files, tmp_path):
    table = score_files(model, files, tmp_path / "out")
    before = table.read_text()
    score_files(model, files, tmp_path / "out", report=tmp_path / "out" / "report.html")
    assert table.read_text() == before
    assert all(image["map"] for image in images_of((tmp_path / "out" / "report.html").read_text()))


def test_unreadable_images_are_on_the_page(model, files, tmp_path):
    files[1].write_bytes(b"no image")
    with pytest.warns(ImageReadWarning):
        score_files(model, files, tmp_path / "out", report=tmp_path / "report.html")
    images = images_of((tmp_path / "report.html").read_text())
    assert [image["kind"] == "unreadable" for image in images] == [False, False, False, True]
    assert "cannot be read as an image" in images[3]["error"]


def test_pictures_are_those_of_the_verdict_beside_them(model, files, tmp_path, cloth):
    """Also of an image that has changed, and was scored without pictures since."""
    out, options = tmp_path / "out", {"overlays": True, "report": tmp_path / "report.html"}
    score_files(model, files, out, **options)
    Image.fromarray(cloth.X_test[0]).save(files[1])
    score_files(model, files, out)
    score_files(model, files, out, **options)
    score_files(model, files, tmp_path / "fresh", **options)
    for folder in ("overlays", "thumbnails"):
        for path in (tmp_path / "fresh" / folder).iterdir():
            assert (out / folder / path.name).read_bytes() == path.read_bytes()


def test_a_file_that_goes_while_it_is_scored_is_a_row_with_an_error(model, files, tmp_path, monkeypatch):
    write = Thumbnails.write

    def write_too_late(self, path, verdict):
        files[2].unlink(missing_ok=True)
        write(self, path, verdict)

    monkeypatch.setattr(Thumbnails, "write", write_too_late)
    page = tmp_path / "report.html"
    with pytest.warns(ImageReadWarning, match="1 of 4 images could not be read: '2.png'"):
        score_files(model, files, tmp_path / "out", report=page)
    assert [image["kind"] for image in images_of(page.read_text())].count("unreadable") == 1
    assert not list((tmp_path / "out" / "thumbnails").glob("2_*"))
    Image.fromarray(np.zeros((30, 30), np.uint8)).save(files[2])
    with pytest.raises(ImageReadError, match="no such file"):
        score_files(model, files, tmp_path / "other", report=page, on_error="raise")


def test_long_names_have_pictures(model, files, tmp_path):
    path = files[0].rename(files[0].with_name("検" * 80 + ".png"))  # 244 bytes
    score_files(model, [path], tmp_path / "out", overlays=True, report=tmp_path / "report.html")
    assert len(list((tmp_path / "out" / "overlays").iterdir())) == 1


def test_images_are_shown_in_the_order_of_channels_of_the_detector(tmp_path):
    images = np.zeros((30, 20, 20, 3), np.uint8)
    images[..., 0] = 200  # blue, for OpenCV
    images[..., 1] = np.arange(30)[:, None, None]
    detector = VariationModel(Pixels(16, channels="bgr")).fit(images)
    save_report(tmp_path / "r.html", detector, images[:1])
    red, _, blue = pixels_of(images_of((tmp_path / "r.html").read_text())[0]["image"]).mean(axis=(0, 1))
    assert red < 60 < 150 < blue


def test_a_report_that_cannot_be_written_is_found_before_scoring(model, files, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"report='.*r.html': the folder '.*gone' does not exist"):
        score_files(model, files, tmp_path / "out", report=tmp_path / "gone" / "r.html")
    with pytest.raises(IsADirectoryError, match="is a folder; it must be the path of a file"):
        score_files(model, files, tmp_path / "out", report=tmp_path)
    assert not (tmp_path / "out").exists()


# In a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    profile = tmp_path_factory.mktemp("profile")
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"):
        options.add_argument(option)
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def address(detector, cloth, tmp_path_factory):
    X = [cloth.X_test[i % 16][: 40 + i % 20] for i in range(80)]
    path, names = tmp_path_factory.mktemp("page") / "r.html", [*NASTY, *(f"part {i}.png" for i in range(76))]
    return save_report(path, detector, X, names=names).as_uri()


@pytest.fixture
def page(browser, address):
    browser.get(address)
    return browser


def wait(condition):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(None, 30, 0.05).until(lambda _: condition())


def cards(page):
    return page.find_elements("css selector", ".card")


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_page_works_in_a_browser(page, cloth):
    from selenium.webdriver.common.keys import Keys

    def press(key):
        page.switch_to.active_element.send_keys(key)

    def active():
        return int(page.switch_to.active_element.get_dom_attribute("data-i"))

    n_flagged = int(page.find_element("css selector", ".summary strong").text.split()[0])
    assert 0 < n_flagged < 80
    assert cards(page)[0].text.startswith("▲ Flagged")
    alt = page.find_element("css selector", ".card img").get_dom_attribute("alt")
    assert re.search(r": flagged, score -\S+, p-value \S+, \d+ regions, the largest in rows \d+ to \d+ and", alt)
    wait(lambda: page.execute_script("return document.querySelector('.card canvas').width") == 240)

    for kind, n in (("flagged", n_flagged), ("passed", 80 - n_flagged), ("all", 80)):
        page.find_element("css selector", f"input[value={kind}]").click()
        page.execute_script("scrollTo(0, document.body.scrollHeight)")
        wait(lambda n=n: len(cards(page)) == n)
    page.find_element("id", "search").send_keys("onerror")
    wait(lambda: len(cards(page)) == 1)
    assert cards(page)[0].find_element("class name", "name").text == NASTY[0]
    page.find_element("id", "search").send_keys(*[Keys.BACKSPACE] * 7)
    wait(lambda: len(cards(page)) > 1)

    page.execute_script("scrollTo(0, 0); document.querySelector('.view').focus()")
    columns = page.execute_script("return perRow()")
    assert columns > 2
    for key, place in ((Keys.ARROW_RIGHT, 1), (Keys.ARROW_DOWN, 1 + columns), (Keys.ARROW_LEFT, columns)):
        press(key)
        assert active() == place
    press(Keys.ARROW_UP)
    press(Keys.ENTER)
    dialog = page.find_element("id", "dialog")
    assert dialog.is_displayed()
    names = [page.find_element("id", "dialog-name").text]
    press(Keys.ARROW_RIGHT)
    names.append(page.find_element("id", "dialog-name").text)
    assert names == [cards(page)[i].find_element("class name", "name").text for i in (0, 1)]
    rows = page.find_elements("css selector", "#words tr")
    assert len(rows) - 1 == len(page.find_elements("css selector", "#picture .box")) > 0
    press(Keys.ESCAPE)
    wait(lambda: not dialog.is_displayed())
    assert active() == 1
    press(Keys.END)
    wait(lambda: active() == 79)

    blend = page.find_element("id", "blend")
    blend.send_keys(Keys.HOME)
    assert page.execute_script("return getComputedStyle(document.querySelector('.overlay')).opacity") == "0"
    blend.send_keys(Keys.END)
    assert page.execute_script("return getComputedStyle(document.querySelector('.map')).opacity") == "1"

    assert page.title == "Anomaly report"  # no script in a name has run
    assert page.get_log("browser") == []
    sent = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    requests = [message["params"] for message in sent if message["method"] == "Network.requestWillBeSent"]
    urls = {request["request"]["url"] for request in requests if request["documentURL"] == page.current_url}
    assert {url for url in urls if not url.startswith("data:")} == {page.current_url}


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("width", [400, 1200])
def test_nothing_is_wider_than_the_window(page, width):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert (
        page.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    )
    page.find_element("class name", "view").click()
    words = "const w = document.getElementById('words'); return w.scrollWidth - w.clientWidth"
    assert page.execute_script(words) == 0
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
