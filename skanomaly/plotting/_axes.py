"""The axes that displays draw on."""


def given_or_new(ax):
    """Return the given axes, or those of a new pyplot figure.

    Parameters
    ----------
    ax : matplotlib Axes or None
        Axes to draw on; None creates a new pyplot figure.

    Returns
    -------
    matplotlib Axes
        Axes to draw on.
    """
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt  # imported here because pyplot selects a backend on import

    return plt.figure().add_subplot()
