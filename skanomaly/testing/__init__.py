"""Common checks for image detectors, ours and yours.

`check_image_detector` runs all of them; `parametrize_with_image_checks` makes one test of each.
"""

from ._image_checks import check_image_detector, image_detector_checks, parametrize_with_image_checks

__all__ = ["check_image_detector", "image_detector_checks", "parametrize_with_image_checks"]
