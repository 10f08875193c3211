"""Pictures of scores and maps: arrays in, matplotlib axes out."""

from ._maps import AnomalyMapDisplay, plot_overlay_sheet

__all__ = ["AnomalyMapDisplay", "plot_overlay_sheet"]
