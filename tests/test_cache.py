import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline

from skanomaly import Aligned, FitOnNormal, GreedyCoreset, KNNScorer, PretrainedPatchFeatures
from skanomaly.exceptions import CacheWarning
from skanomaly.features import _cache
from skanomaly.metrics import image_auroc_scorer


@pytest.fixture
def cached(small_features, tmp_path):
    return clone(small_features).set_params(memory=str(tmp_path / "cache"))


@pytest.fixture
def passes(monkeypatch):
    """Count the images that pass through the network."""
    counted = []
    compute = PretrainedPatchFeatures._compute

    def count(self, source, output, values):
        counted.append(len(source))
        compute(self, source, output, values)

    monkeypatch.setattr(PretrainedPatchFeatures, "_compute", count)
    return counted


def entries(features):
    """Return the files of grids; beside each there is a small one with the digest of its image."""
    return sorted(path for path in Path(features.memory).glob("??/*") if path.stat().st_size > 100)


def test_recalled_grids_are_the_computed_ones(small_features, cached, passes, rng):
    images = rng.random((5, 64, 64))
    images[4] = images[1]
    expected = small_features.fit_transform(images)
    passes.clear()
    for _ in range(2):
        np.testing.assert_array_equal(cached.fit_transform(images), expected)
    np.testing.assert_array_equal(cached.transform(images[::-1]), expected[::-1])
    assert passes == [4]  # two images are the same


def test_content_counts_not_the_name(cached, passes, tmp_path, rng):
    a, b = rng.integers(0, 256, (2, 64, 64), np.uint8)
    Image.fromarray(a).save(tmp_path / "x.png")
    first = cached.fit_transform([tmp_path / "x.png"])
    Image.fromarray(b).save(tmp_path / "x.png")
    assert not np.array_equal(cached.transform([tmp_path / "x.png"]), first)
    (tmp_path / "copy.png").write_bytes((tmp_path / "x.png").read_bytes())
    cached.transform([tmp_path / "copy.png"])
    assert sum(passes) == 2


@pytest.mark.parametrize(
    "change",
    [{"layers": (1, 2)}, {"image_size": 96}, {"crop": 32}, {"neighborhood": 1}, {"dim": 16}, {"random_state": 1}],
)
def test_every_setting_that_matters_counts(cached, rng, change):
    images = rng.random((1, 64, 64))
    cached.fit_transform(images)
    changed = clone(cached).set_params(**change)
    plain = clone(changed).set_params(memory=None)
    np.testing.assert_array_equal(changed.fit_transform(images), plain.fit_transform(images))


def test_data_range_counts(cached):
    images = np.full((1, 64, 64), 4096, np.uint16)
    a = cached.fit_transform(images)
    assert not np.array_equal(clone(cached).set_params(data_range=5000).fit_transform(images), a)


@pytest.mark.parametrize("damage", [lambda d: d[:50], lambda d: b"", lambda d: d[:-1] + b"x", lambda d: b"\0" * len(d)])
def test_damaged_entries_are_computed_again_with_a_warning(cached, rng, damage):
    images = rng.random((2, 64, 64))
    expected = cached.fit_transform(images)
    path = entries(cached)[0]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(CacheWarning, match=path.name):
        np.testing.assert_array_equal(cached.transform(images), expected)
    np.testing.assert_array_equal(cached.transform(images), expected)


def test_the_size_is_bounded_and_the_oldest_go_first(cached, passes, rng):
    images = rng.random((6, 64, 64))
    one = cached.fit(images).transform(images[:1])
    size = entries(cached)[0].stat().st_size
    cached.set_params(memory_limit=3 * size + 500)
    for i in range(1, 6):
        time.sleep(0.02)
        cached.transform(images[:1])  # used again and again, hence kept
        time.sleep(0.02)
        cached.transform(images[i : i + 1])
    assert len(entries(cached)) == 3
    passes.clear()
    np.testing.assert_array_equal(cached.transform(images[:1]), one)
    assert passes == []


def entry_name(cached, rng):
    """Return the name of a real entry, relative to the cache."""
    cached.fit_transform(rng.random((1, 64, 64)))
    return entries(cached)[0].relative_to(cached.memory)


def test_files_of_others_survive_in_a_cache(cached, rng, tmp_path):
    cache, name = tmp_path / "cache", entry_name(cached, rng)
    shard = cache / name.parent
    linked, wrong = sorted({"aa", "bb", "cc"} - {shard.name})[:2]
    (tmp_path / "elsewhere").mkdir()
    (cache / linked).symlink_to(tmp_path / "elsewhere")
    others = [
        *(shard / f for f in ("photo.png", f"{'0' * 63}.grid", f"{'A' * 64}.grid", f"{name.name}.bak", "tmpabcdefgh")),
        cache / "00photos" / name.name,
        cache / wrong / name.name,
        cache / linked / f"{linked * 32}.grid",
        cache / "1.png",
    ]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 1000)
        os.utime(path, (0, 0))
    cached.set_params(memory_limit=0).transform(rng.random((2, 64, 64)))
    assert not (cache / name).exists()
    assert all(path.exists() for path in others)


def test_temporaries_of_dead_processes_are_deleted(cached, rng, tmp_path):
    shard = (tmp_path / "cache" / entry_name(cached, rng)).parent
    old, new = shard / "skanomaly-temporary-abcd1234", shard / "skanomaly-temporary-efgh5678"
    for path, age in ((old, 3700), (new, 3500)):
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age,) * 2)
    cached.transform(rng.random((1, 64, 64)))
    assert not old.exists()
    assert new.exists()


def test_a_write_that_fails_leaves_no_file(cached, rng, tmp_path, monkeypatch):
    cached.fit(rng.random((1, 64, 64)))

    def fail(source, target):
        assert Path(source).name.startswith("skanomaly-temporary-")
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        cached.transform(rng.random((1, 64, 64)))
    assert list((tmp_path / "cache").glob("??/*")) == []


@pytest.mark.parametrize("name", ["01/7.png", "notes.txt", f"01/{'0' * 64}.grid", "photos/1.png", ".hidden"])
def test_a_folder_that_is_not_a_cache_is_refused(cached, rng, tmp_path, name):
    path = tmp_path / "cache" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 1000)
    cached.set_params(memory_limit=0).fit(rng.random((1, 64, 64)))
    folder, suggested = str(tmp_path / "cache"), str(tmp_path / "cache" / "skanomaly-cache")
    message = f"memory={folder!r} is not a feature cache: it holds .*{Path(name).parts[0]}.* such as {suggested!r}"
    with pytest.raises(ValueError, match=message):
        cached.transform(rng.random((1, 64, 64)))
    assert [p for p in (tmp_path / "cache").rglob("*") if p.is_file()] == [path]
    cached.set_params(memory=suggested).transform(rng.random((1, 64, 64)))


def test_a_file_is_not_a_cache(cached, rng, tmp_path):
    (tmp_path / "cache").write_text("notes")
    with pytest.raises(ValueError, match="memory=.*cache' is a file; it must be a folder"):
        cached.fit_transform(rng.random((1, 64, 64)))


def test_empty_folders_and_caches_without_a_marker_become_caches(cached, passes, rng, tmp_path):
    (tmp_path / "cache").mkdir()
    images = rng.random((4, 64, 64))
    cached.fit_transform(images)
    marker = tmp_path / "cache" / "skanomaly-feature-cache.txt"
    assert "can be deleted" in marker.read_text()
    marker.unlink()
    passes.clear()
    cached.transform(images)
    assert marker.is_file()
    assert passes == []


def test_several_processes(cached, small_features, rng):
    images = rng.random((12, 64, 64))
    expected = small_features.fit_transform(images)
    for grids in Parallel(n_jobs=2)(delayed(clone(cached).fit_transform)(images) for _ in range(4)):
        np.testing.assert_allclose(grids, expected, rtol=1e-5, atol=1e-5)  # workers have one thread each


def test_killed_in_the_middle_of_a_write(cached, small_features, rng, tmp_path):
    images = rng.random((40, 64, 64))
    np.save(tmp_path / "X.npy", images)
    code = (
        "import numpy as np; from skanomaly import PretrainedPatchFeatures; from skanomaly.features import _cache;"
        f"f = PretrainedPatchFeatures(weights='random', image_size=64, random_state=0, memory={cached.memory!r});"
        f"X = np.load({str(tmp_path / 'X.npy')!r}); print('ready', flush=True);"
        "[f.fit_transform(X[i:i+1]) for i in range(40)]"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    process.stdout.readline()
    while not list((tmp_path / "cache").glob("??/*.grid")):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert 0 < len(entries(cached)) < 40
    np.testing.assert_array_equal(cached.fit_transform(images), small_features.fit_transform(images))


@pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")
def test_a_search_passes_each_image_once(cached, cloth, passes):
    X = np.concatenate([cloth.X_train, cloth.X_test])
    y = np.concatenate([np.ones(12, int), cloth.y_test])
    pipeline = make_pipeline(cached, GreedyCoreset(random_state=0), KNNScorer())
    search = GridSearchCV(
        FitOnNormal(pipeline),
        {"estimator__knnscorer__n_neighbors": [1, 2]},
        cv=StratifiedKFold(3),
        scoring=image_auroc_scorer,
    )
    search.fit(X, y)
    assert sum(passes) == len(X)


def test_a_picture_replaced_while_it_is_scored_leaves_its_own_entry(cached, small_features, tmp_path, rng, monkeypatch):
    """Key and pixels come from one read: another process swaps two pictures before every read of one of them."""
    for name in "ab":
        Image.fromarray(rng.integers(0, 256, (64, 64), np.uint8)).save(tmp_path / f"{name}.png")
    contents = [(tmp_path / f"{name}.png").read_bytes() for name in "ab"]
    expected = [small_features.fit_transform([tmp_path / f"{name}.png"])[0] for name in "ab"]
    path, reads = tmp_path / "x.png", []
    path.write_bytes(contents[0])
    cached.fit([path])
    read = Path.read_bytes

    def swap(self):
        if self == path:
            reads.append(path)
            path.write_bytes(contents[len(reads) % 2])
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", swap)
    for _ in range(5):
        grid = cached.transform([path, path])
        assert all(any(np.array_equal(one, other) for other in expected) for one in grid)
    monkeypatch.undo()
    assert len(reads) >= 10
    for content, grid in zip(contents, expected, strict=True):
        path.write_bytes(content)
        np.testing.assert_array_equal(cached.transform([path])[0], grid)


@pytest.mark.parametrize("change", [lambda a: a[:-1], lambda a: a.astype(np.float64), lambda a: a[None], np.ravel])
def test_entries_of_another_shape_or_type_are_computed_again(cached, rng, change):
    images = rng.random((1, 64, 64))
    expected = cached.fit_transform(images)
    cache, path = _cache.FeatureCache(cached.memory, 10**9), entries(cached)[0]
    cache.put(path.stem, change(expected[0]))
    with pytest.warns(CacheWarning, match="is damaged .it is"):
        np.testing.assert_array_equal(cached.transform(images), expected)
    np.testing.assert_array_equal(cached.transform(images), expected)


def test_folders_in_the_place_of_entries_survive(cached, rng, tmp_path):
    images = rng.random((2, 64, 64))
    expected = cached.fit_transform(images)
    path = entries(cached)[0]
    path.unlink()
    (path / "inner").mkdir(parents=True)
    for file in (tmp_path / "cache").glob("??"):
        if file != path.parent and not list(file.glob("*/")):
            for entry in file.iterdir():
                entry.unlink()
            file.rmdir()
            file.write_text("a file")
    cached.set_params(memory_limit=0)
    np.testing.assert_array_equal(cached.transform(images), expected)
    assert (path / "inner").is_dir()


def test_an_entry_that_another_process_deletes_is_still_an_answer(cached, rng, monkeypatch):
    images = rng.random((1, 64, 64))
    expected = cached.fit_transform(images)
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: [read(self), self.unlink()][0])
    np.testing.assert_array_equal(cached.transform(images), expected)


def _score_with_tiny_limit(features, images, seed):
    order = np.random.default_rng(seed).integers(0, len(images), 30)
    return order, np.stack([features.transform(images[i : i + 1])[0] for i in order])


def test_two_processes_at_a_tiny_limit(cached, small_features, rng):
    images = rng.random((4, 64, 64))
    expected = small_features.fit_transform(images)
    size = cached.fit_transform(images)[0].nbytes
    features = cached.set_params(memory_limit=size + 500)
    jobs = (delayed(_score_with_tiny_limit)(features, images, seed) for seed in range(2))
    for order, grids in Parallel(n_jobs=2)(jobs):
        np.testing.assert_allclose(grids, expected[order], rtol=1e-5, atol=1e-5)  # workers have one thread each


def test_parameters_that_act_later_do_not_name_what_is_stored(rng, tmp_path):
    """Layers and light are those of the fit, also in the keys."""
    X = rng.random((3, 32, 32, 3))

    def blocks(layer, memory=None):
        options = {"weights": "random", "random_state": 0, "image_size": 160, "neighborhood": 1, "memory": memory}
        return PretrainedPatchFeatures("test_vit", layers=(layer,), **options).fit(X)

    blocks(0, tmp_path / "a").set_params(layers=(3,)).transform(X)
    np.testing.assert_array_equal(blocks(3, tmp_path / "a").transform(X), blocks(3).transform(X))

    def aligned(memory=None):
        inner = PretrainedPatchFeatures(
            "test_efficientnet", layers=(2,), weights="random", random_state=0, image_size=32, memory=memory
        )
        return Aligned(inner, reference=X[0]).fit(X / 2)

    aligned(tmp_path / "b").set_params(match_light=True).transform(X / 2)
    np.testing.assert_array_equal(aligned(tmp_path / "b").transform(X / 2), aligned().transform(X / 2))
