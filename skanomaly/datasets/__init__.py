"""Sets of images with labels and masks, from folders or made up."""

from ._folders import Mask, load_image_folder, load_mvtec
from ._surfaces import make_surfaces

__all__ = ["load_image_folder", "load_mvtec", "make_surfaces", "Mask"]
