"""Data sets: labelled images with defect masks, read from folders or synthetic, and tables."""

from ._folders import Mask, load_image_folder, load_mvtec
from ._layouts import RegionsMask, find_categories, load_btad, load_category, load_mvtec_loco, load_visa
from ._parts import make_parts
from ._surfaces import make_surfaces
from ._tables import load_creditcard

__all__ = [
    "find_categories",
    "load_btad",
    "load_category",
    "load_creditcard",
    "load_image_folder",
    "load_mvtec",
    "load_mvtec_loco",
    "load_visa",
    "make_parts",
    "make_surfaces",
    "Mask",
    "RegionsMask",
]
