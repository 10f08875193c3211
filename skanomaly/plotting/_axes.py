"""Where displays draw."""


def given_or_new(ax):
    """Return the axes, or those of a new pyplot figure for None."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt  # only here: pyplot picks a backend when imported

    return plt.figure().add_subplot()
