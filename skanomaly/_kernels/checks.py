"""Checks without which kernels would read or write outside of arrays."""


def require(condition, message):
    """Raise a ValueError with a message unless a condition holds.

    Parameters
    ----------
    condition : bool
        What must hold.
    message : str
        What does not hold otherwise.
    """
    if not condition:
        raise ValueError(message)
