"""Pictures of images with their anomaly maps, verdicts and regions."""

from ..maps import pixels_as_seen, scale_of_maps
from ._table import name_of


class OfImages:
    """Folder with a file for each image, named after the path of the image.

    A subclass has a ``place``, the name of the folder, a ``suffix``, and a method ``write(path, verdict)``, which
    writes the file of an image.

    Parameters
    ----------
    out : Path
        Path of the folder around it, in which it is created.
    detector : detector
        Detector that judges the images.
    """

    place = suffix = None

    def __init__(self, out, detector):
        self.out, self.detector = out, detector
        (out / self.place).mkdir(parents=True, exist_ok=True)

    @classmethod
    def path_in(cls, out, path):
        """Return the path of the file of an image, which depends on the path of the image only.

        Parameters
        ----------
        out : Path
            Path of the folder around it.
        path : Path
            Path of the image.

        Returns
        -------
        Path
            Path of the file.
        """
        return out / cls.place / f"{name_of(path)}{cls.suffix}"


class Overlays(OfImages):
    """Folder of pictures, one for each image, on the one colour scale of the detector.

    Parameters
    ----------
    out : Path
        Path of the folder around it, in which it is created.
    detector : detector
        Detector that judges the images.
    """

    place, suffix = "overlays", ".png"

    def __init__(self, out, detector):
        from .. import plotting  # without matplotlib, this fails here already

        super().__init__(out, detector)
        self._display = plotting.AnomalyMapDisplay

    def write(self, path, verdict):
        """Write the picture of an image.

        Parameters
        ----------
        path : Path
            Path of the image.
        verdict : Verdict
            Verdict on the image, with a map.
        """
        from matplotlib.figure import Figure

        display = self._display(
            pixels_as_seen(self.detector, [path])[0],
            verdict.anomaly_map,
            predicted_mask=verdict.mask,
            **scale_of_maps(self.detector),
        )
        height, width = verdict.anomaly_map.shape
        scale = 6 / max(height, width)
        figure = Figure(figsize=(max(scale * width, 2.5) + 1.4, max(scale * height, 1) + 0.6), layout="constrained")
        display.plot(ax=figure.add_subplot(), colorbar=True, alpha=0.8)
        display.ax_.set_title(describe(verdict, self.detector), fontsize=9)
        figure.savefig(self.path_in(self.out, path), dpi=100)


def describe(verdict, detector):
    """Return a verdict in two lines of text.

    Parameters
    ----------
    verdict : Verdict
        Verdict.
    detector : detector
        Detector that made it.

    Returns
    -------
    str
        Label, score with the threshold, p-value, and number of regions.
    """
    label = "flagged" if verdict.label < 0 else "passed"
    regions = "" if verdict.regions is None else f", regions: {len(verdict.regions)}"
    return f"{label}: score {verdict.score:.4g}, threshold {detector.offset_:.4g}\np = {verdict.p_value:.3g}{regions}"
