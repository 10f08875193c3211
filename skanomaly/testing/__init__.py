"""Common checks for image detectors, those of skanomaly and your own.

`check_image_detector` runs all of them; `parametrize_with_image_checks` turns each of them into a pytest test.
"""

from ._image_checks import check_image_detector, image_detector_checks, parametrize_with_image_checks

__all__ = ["check_image_detector", "image_detector_checks", "parametrize_with_image_checks"]
